"""A decoder small enough to show what is being sampled, step by step."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class TinyDecoderConfig(Config):
    """Shape of a decoder of plain 3x3 convolutions.

    ``widths`` are the channels of its levels from the latents' resolution on, each twice as large as the one before,
    with ``blocks`` residual blocks each. The last level's features are unfolded into ``depth_to_space`` x
    ``depth_to_space`` pixels per position.
    """

    latent_channels: int = 4
    image_channels: int = 3
    widths: tuple[int, ...] = (64, 64, 32)
    blocks: int = 2
    depth_to_space: int = 2

    def __post_init__(self) -> None:
        for name in ("latent_channels", "image_channels", "blocks", "depth_to_space"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be one positive number or more, not {self.widths}")

    @property
    def factor(self) -> int:
        """Pixels per latent position along each axis."""
        return self.depth_to_space * 2 ** (len(self.widths) - 1)

    def build(self) -> "TinyDecoder":
        """Make the decoder with fresh weights."""
        return TinyDecoder(self)


class TinyDecoder(nn.Module):
    """Normalised latents to images in about [-1, 1], as an autoencoder would decode them, at a fraction of the cost.

    No normalisation and no attention, so that a latent position speaks for the pixels around it alone. Latents go in
    as ``3 tanh(z / 3)``: an outlier, as early steps of sampling have them, stays in the range that was learned.
    """

    def __init__(self, config: TinyDecoderConfig) -> None:
        super().__init__()
        self.config = config
        width, *others = config.widths
        layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, width, 3, padding=1), nn.ReLU()]
        layers += [_Block(width) for _ in range(config.blocks)]
        for following in others:
            layers += [nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(width, following, 3, padding=1)]
            layers += [_Block(following) for _ in range(config.blocks)]
            width = following
        layers.append(nn.Conv2d(width, config.image_channels * config.depth_to_space**2, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    @property
    def factor(self) -> int:
        """Pixels per latent position along each axis."""
        return self.config.factor

    def forward(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Decode normalised latents; the images are not clamped."""
        return F.pixel_shuffle(self.layers(3 * torch.tanh(latents / 3)), self.config.depth_to_space)


class _Block(nn.Module):
    """``relu(x + conv(relu(conv(x))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))
