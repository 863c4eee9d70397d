"""How the numbers in image files map to [-1, 1] and back."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class PixelFormat(Config):
    """Channels, depth and range of a data set's pixels; stored with the autoencoder that was trained on them.

    ``low`` maps to -1 and ``high`` to +1.
    """

    channels: int = 3
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    low: float = 0.0
    high: float = 255.0

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, not {self.channels}")
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")

    def __str__(self) -> str:
        return f"{self.channels} channel{'s' * (self.channels > 1)} of {self.dtype}"

    def to_model(self, pixels: np.ndarray) -> Float[Tensor, "... h w c"]:
        """Map raw pixels (any leading axes, channels last) to [-1, 1] in float32."""
        values = torch.from_numpy(np.ascontiguousarray(pixels).astype(np.float32))
        return (values - self.low) * (2 / (self.high - self.low)) - 1

    def to_file(self, images: Float[Tensor, "b c h w"]) -> tuple[np.ndarray, int]:
        """Map images to raw pixels (b, h, w, c), rounded to nearest for integer depths.

        Returns the pixels and how many values lay outside the range by more than half a step and were clipped.
        """
        values = (images.detach().float().cpu() + 1) * ((self.high - self.low) / 2) + self.low
        values = values.permute(0, 2, 3, 1)
        slack = 0.5 if self.dtype != "float32" else 0.0
        clipped = int(((values < self.low - slack) | (values > self.high + slack)).sum())
        values = values.clamp(self.low, self.high)
        if self.dtype != "float32":
            values = values.round()
        return values.numpy().astype(self.dtype), clipped
