"""How the numbers in image files map to [-1, 1] and back."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calotype.utils.config import Config

_FULL = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}


@dataclass(frozen=True, kw_only=True)
class PixelFormat(Config):
    """Channels, depth and range of a data set's pixels; stored with the autoencoder that was trained on them.

    ``low`` maps to -1 and ``high`` to +1; both are one number for all channels, or one for each. What lies outside goes
    beyond [-1, 1], it is not clipped.
    """

    channels: int = 3
    dtype: Literal["uint8", "uint16", "int16", "float32"] = "uint8"
    low: float | tuple[float, ...] = 0.0
    high: float | tuple[float, ...] = 255.0

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, not {self.channels}")
        if isinstance(self.low, tuple) != isinstance(self.high, tuple):
            raise ValueError("low and high must both be one number, or both one number for each channel")
        for name, values in (("low", self.low), ("high", self.high)):
            if isinstance(values, tuple) and len(values) != self.channels:
                raise ValueError(f"{name} must have {self.channels} numbers, one for each channel, not {len(values)}")
        if not all(low < high for low, high in self.ranges):
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """The numbers of (low, high), once if all channels share them, else for each channel."""
        if isinstance(self.low, tuple) and isinstance(self.high, tuple):
            return tuple(zip(self.low, self.high, strict=True))
        assert not isinstance(self.low, tuple)
        assert not isinstance(self.high, tuple)
        return ((self.low, self.high),)

    def __str__(self) -> str:
        text = f"{self.channels} channel{'s' * (self.channels > 1)} of {self.dtype}"
        if len(self.ranges) > 1:
            return f"{text}, each with its own range"
        low, high = self.ranges[0]
        return text if (low, high) == _FULL.get(self.dtype) else f"{text} from {low:g} to {high:g}"

    def to_model(self, pixels: np.ndarray) -> Float[Tensor, "... h w c"]:
        """Map raw pixels (any leading axes, channels last) to [-1, 1] in float32."""
        values = torch.from_numpy(np.ascontiguousarray(pixels).astype(np.float32))
        low, high = (torch.tensor(bound, dtype=torch.float64) for bound in zip(*self.ranges, strict=True))
        return (values - low.float()) * (2 / (high - low)).float() - 1

    def to_file(
        self, images: Float[Tensor, "b c h w"], rounding: Literal["nearest", "down"] = "nearest"
    ) -> tuple[np.ndarray, int]:
        """Map images to raw pixels (b, h, w, c), for integer depths by ``rounding`` (the reference's scripts go down).

        Returns the pixels and how many values lay outside the range, by more than half a step or a millionth of it,
        and were clipped.
        """
        low, high = (torch.tensor(bound, dtype=torch.float64) for bound in zip(*self.ranges, strict=True))
        values = (images.detach().float().cpu().permute(0, 2, 3, 1) + 1) * ((high - low) / 2).float() + low.float()
        integers = self.dtype != "float32"
        slack = 0.5 if integers else 1e-6 * (high - low)
        clipped = int(((values < low - slack) | (values > high + slack)).sum())
        values = values.clamp(low.float(), high.float())
        if integers:
            values = values.round() if rounding == "nearest" else values.floor()
        return values.numpy().astype(self.dtype), clipped
