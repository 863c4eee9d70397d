"""Half the resolution, or twice: by convolutions with or without a shortcut, or by averages and repetition.

The shortcut is that of DC-AE (arXiv:2410.10733, Section 3.2): space to depth, then means over channels; on the way up,
channels repeated, then depth to space. It has no weights, and what it brings up it would bring down unchanged.
"""

from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

Shortcut = Literal["none", "space_to_depth"]


class Downsample(nn.Module):
    """Halve height and width: a strided 3x3 convolution, or 2x2 averages where ``convolve`` is False.

    The convolution sees one row of zeros below and one column to the right, none above or to the left. With
    ``shortcut="space_to_depth"``, ``average_channels(pixel_unshuffle(x))`` is added to it: everything that x holds
    where ``out_channels`` is four times ``channels``, 2x2 averages where they are equal.
    """

    def __init__(
        self, channels: int, out_channels: int | None = None, *, convolve: bool = True, shortcut: Shortcut = "none"
    ) -> None:
        super().__init__()
        self.out_channels, self.shortcut = out_channels or channels, shortcut
        self.conv = nn.Conv2d(channels, self.out_channels, 3, stride=2) if convolve else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h//2 w//2"]:
        if self.conv is None:
            return F.avg_pool2d(x, 2)
        y = self.conv(F.pad(x, (0, 1, 0, 1)))
        return y if self.shortcut == "none" else y + average_channels(F.pixel_unshuffle(x, 2), self.out_channels)


class Upsample(nn.Module):
    """Double height and width (nearest neighbour), then a 3x3 convolution unless ``convolve`` is False.

    With ``shortcut="space_to_depth"``, ``pixel_shuffle(repeat_channels(x))`` is added to it.
    """

    def __init__(
        self, channels: int, out_channels: int | None = None, *, convolve: bool = True, shortcut: Shortcut = "none"
    ) -> None:
        super().__init__()
        self.out_channels, self.shortcut = out_channels or channels, shortcut
        self.conv = nn.Conv2d(channels, self.out_channels, 3, padding=1) if convolve else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d 2*h 2*w"]:
        y = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y if self.shortcut == "none" else y + F.pixel_shuffle(repeat_channels(x, 4 * self.out_channels), 2)


def average_channels(x: Float[Tensor, "b c h w"], channels: int) -> Float[Tensor, "b d h w"]:
    """Return ``channels`` means of ``c / channels`` neighbouring channels each."""
    return rearrange(x, "b (d group) h w -> b d group h w", d=channels).mean(dim=2)


def repeat_channels(x: Float[Tensor, "b c h w"], channels: int) -> Float[Tensor, "b d h w"]:
    """Return every channel ``channels / c`` times in a row; ``average_channels`` undoes it."""
    return x.repeat_interleave(channels // x.shape[1], dim=1)
