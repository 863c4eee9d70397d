"""From an image of any size to what a model sees of it: a crop of one size, or of one of several."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from PIL import Image

from calotype.utils.config import Config
from calotype.utils.size import Size, height_width


@dataclass(frozen=True, kw_only=True)
class Transform(Config):
    """Crop as much as has the shape of ``size``, resize it with antialiasing, and flip it at random if asked.

    ``size`` is the side of a square, or (height, width). Where there are ``more_sizes``, each image is trained on at
    the one of all that crops it least (``choose``); what is not training is done at ``size``.

    Cropping before resizing gives what resizing first would, without the cost of long images.
    """

    size: Size = 64
    more_sizes: tuple[Size, ...] = ()
    crop: Literal["centre", "random"] = "centre"
    flip: bool = False

    def __post_init__(self) -> None:
        for size in self.sizes:
            if min(height_width(size)) < 1:
                raise ValueError(f"size must be at least 1, not {size}")

    @property
    def sizes(self) -> tuple[Size, ...]:
        """All sizes, ``size`` first."""
        return (self.size, *self.more_sizes)

    @property
    def deterministic(self) -> bool:
        """Whether the result depends on the image alone."""
        return self.crop == "centre" and not self.flip

    def at(self, size: Size) -> "Transform":
        """Return the same for one size."""
        return replace(self, size=size, more_sizes=())

    def choose(self, height: int, width: int) -> int:
        """Return which of ``sizes`` keeps most of an image; of equals the largest that does not enlarge it."""

        def worth(number: int) -> tuple[int, bool, int]:
            wanted_height, wanted_width = height_width(self.sizes[number])
            rows, columns = _largest_crop(height, width, wanted_height, wanted_width)
            enlarged = wanted_height > rows or wanted_width > columns
            area = wanted_height * wanted_width
            return rows * columns, not enlarged, -area if enlarged else area

        return max(range(len(self.sizes)), key=worth)

    def apply(self, pixels: np.ndarray, generator: torch.Generator | None = None) -> np.ndarray:
        """Map (h, w, c) pixels of any depth to (height, width, c) of ``size``, of the same depth.

        Draws first the crop, then the flip, from ``generator``, which a deterministic transform does not need.
        """
        return self.flipped(self.cropped(pixels, generator), generator)

    def cropped(self, pixels: np.ndarray, generator: torch.Generator | None = None) -> np.ndarray:
        """Crop and resize alone: the part of ``apply`` that depends on no draw where ``crop`` is ``"centre"``."""
        height, width = pixels.shape[:2]
        top, left, rows, columns = self.window(height, width)
        if self.crop == "random":
            top, left = _draw(height - rows + 1, generator), _draw(width - columns + 1, generator)
        return resize(pixels[top : top + rows, left : left + columns], *height_width(self.size))

    def window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the centre crop of an image: as much as has the shape of ``size``."""
        rows, columns = _largest_crop(height, width, *height_width(self.size))
        return (height - rows) // 2, (width - columns) // 2, rows, columns

    def flipped(self, crop: np.ndarray, generator: torch.Generator | None = None) -> np.ndarray:
        """Mirror ``crop`` left to right, half the time, if ``flip`` is set."""
        return crop[:, ::-1] if self.flip and _draw(2, generator) else crop


def _largest_crop(height: int, width: int, wanted_height: int, wanted_width: int) -> tuple[int, int]:
    """Return height and width of the largest part of an image that has the shape of another."""
    if height * wanted_width <= width * wanted_height:
        return height, max(1, round(height * wanted_width / wanted_height))
    return max(1, round(width * wanted_height / wanted_width)), width


def _draw(choices: int, generator: torch.Generator | None) -> int:
    if generator is None:
        raise ValueError("a random crop or flip needs a generator")
    return int(torch.randint(choices, (), generator=generator))


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample each channel with a Lanczos filter as wide as the reduction; 16 bits in floating point, then rounded."""
    dtype = pixels.dtype
    working = np.uint8 if dtype == np.uint8 else np.float32
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(pixels[..., channel], dtype=working)).resize(
                (width, height), Image.Resampling.LANCZOS, reducing_gap=3.0
            )
        )
        for channel in range(pixels.shape[2])
    ]
    resized = np.stack(channels, axis=-1)
    if np.issubdtype(dtype, np.integer) and working != dtype:
        resized = np.rint(resized).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    return resized.astype(dtype)
