"""What reconstruction does to each channel: how near it is, in which range, and what had to be clipped."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.data.pixel_format import PixelFormat
from calotype.evaluation.reconstruction import DATA_RANGE, PSNR_CEILING

CHANNEL_PROTOCOL = (
    "PSNR of one channel, range 2, mean over images; low and high are the extremes of the originals, in the units of "
    "their files where these are known. outside is the share of the originals' values beyond the range of the format "
    "of the training images; clipped that of the decoder's values, which a file cannot hold and evaluation clips as "
    "well. Less than half a step of integers, or a millionth of the range, is not counted."
)


class ChannelStatistics:
    """Collects statistics of every channel, batch by batch; ``pixel_format`` gives them the units of the files."""

    def __init__(self, pixel_format: PixelFormat | None = None) -> None:
        self.pixel_format = pixel_format
        self.decibels: list[Float[Tensor, "b c"]] = []
        self.low: list[Float[Tensor, " c"]] = []
        self.high: list[Float[Tensor, " c"]] = []
        self.shares: dict[str, list[Float[Tensor, "b c"]]] = {"outside": [], "clipped": []}

    def add(self, images: Float[Tensor, "b c h w"], decoded: Float[Tensor, "b c h w"]) -> None:
        """Take in images and what the decoder made of them, not clipped."""
        error = (images.float() - decoded.float().clamp(-1, 1)).square().mean((2, 3))
        self.decibels.append((10 * torch.log10(DATA_RANGE**2 / error)).clamp(max=PSNR_CEILING).cpu())
        self.low.append(images.amin((0, 2, 3)).cpu())
        self.high.append(images.amax((0, 2, 3)).cpu())
        most = 1 + self._slack(images.shape[1]).to(images.device)
        for name, values in (("outside", images), ("clipped", decoded)):
            self.shares[name].append((values.abs() > most).double().mean((2, 3)).cpu())

    def summary(self) -> dict[str, Any]:
        """Return ``channels`` (psnr, low, high, outside and clipped of each), their ``clipped`` share and a protocol.

        Raises:
            ValueError: there are no images.
        """
        if not self.decibels:
            raise ValueError("there are no images to measure")
        columns = {
            "psnr": torch.cat(self.decibels).mean(0),
            "low": self._in_file(torch.stack(self.low).amin(0)),
            "high": self._in_file(torch.stack(self.high).amax(0)),
            **{name: torch.cat(parts).mean(0) for name, parts in self.shares.items()},
        }
        rows = [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
        clipped = float(columns["clipped"].mean())
        return {"channels": rows, "clipped": clipped, "protocol": CHANNEL_PROTOCOL}

    def _ranges(self, channels: int) -> Float[Tensor, "c 2"]:
        pairs = self.pixel_format.ranges if self.pixel_format else ((-1.0, 1.0),)
        return torch.tensor(pairs, dtype=torch.float64).expand(channels, 2)

    def _in_file(self, values: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
        low, high = self._ranges(len(values)).T
        return low + (values.double() + 1) * (high - low) / 2

    def _slack(self, channels: int) -> Float[Tensor, "c 1 1"]:
        low, high = self._ranges(channels).T
        integers = self.pixel_format is not None and self.pixel_format.dtype != "float32"
        slack = 1 / (high - low) if integers else torch.full_like(low, 2e-6)
        return slack.float()[:, None, None]
