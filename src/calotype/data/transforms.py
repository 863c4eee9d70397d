"""From an image of any size to the square that a model sees."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image

from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class Transform(Config):
    """Crop the largest square, resize it with antialiasing to ``size`` x ``size``, and flip it at random if asked.

    Cropping before resizing gives what resizing the short side and cropping would, without the cost of long images.
    """

    size: int = 64
    crop: Literal["centre", "random"] = "centre"
    flip: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, not {self.size}")

    @property
    def deterministic(self) -> bool:
        """Whether the result depends on the image alone."""
        return self.crop == "centre" and not self.flip

    def apply(self, pixels: np.ndarray, generator: torch.Generator | None = None) -> np.ndarray:
        """Map (h, w, c) pixels of any depth to (size, size, c) of the same depth.

        Draws first the crop, then the flip, from ``generator``, which a deterministic transform does not need.
        """
        return self.flipped(self.cropped(pixels, generator), generator)

    def cropped(self, pixels: np.ndarray, generator: torch.Generator | None = None) -> np.ndarray:
        """Crop and resize alone: the part of ``apply`` that depends on no draw where ``crop`` is ``"centre"``."""
        height, width = pixels.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        if self.crop == "random":
            top, left = _draw(height - side + 1, generator), _draw(width - side + 1, generator)
        return _resize(pixels[top : top + side, left : left + side], self.size)

    def flipped(self, square: np.ndarray, generator: torch.Generator | None = None) -> np.ndarray:
        """Mirror ``square`` left to right, half the time, if ``flip`` is set."""
        return square[:, ::-1] if self.flip and _draw(2, generator) else square


def _draw(choices: int, generator: torch.Generator | None) -> int:
    if generator is None:
        raise ValueError("a random crop or flip needs a generator")
    return int(torch.randint(choices, (), generator=generator))


def _resize(square: np.ndarray, size: int) -> np.ndarray:
    """Resample each channel with a Lanczos filter as wide as the reduction; 16 bits in floating point, then rounded."""
    dtype = square.dtype
    working = np.uint8 if dtype == np.uint8 else np.float32
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(square[..., channel], dtype=working)).resize(
                (size, size), Image.Resampling.LANCZOS, reducing_gap=3.0
            )
        )
        for channel in range(square.shape[2])
    ]
    resized = np.stack(channels, axis=-1)
    if np.issubdtype(dtype, np.integer) and working != dtype:
        resized = np.rint(resized).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    return resized.astype(dtype)
