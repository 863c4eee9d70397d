"""PatchGAN: a small convolutional network that judges overlapping patches as real or generated."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from calotype.utils.config import Config
from calotype.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class NLayerDiscriminatorConfig(Config):
    """Shape of a PatchGAN discriminator; 64 channels and 3 layers see patches of 70 x 70 pixels (arXiv:1611.07004).

    ``normalisation="group"`` works at every batch size and does not tie the ranks of a distributed run together;
    ``"batch"`` and ``"act"`` are the reference's. ``"spectral"`` divides every convolution's weight by its largest
    singular value (arXiv:1802.05957) and leaves activations alone. ``channels`` must be a multiple of 4 for
    ``"group"``.
    """

    in_channels: int = 3
    channels: int = 64
    num_layers: int = 3
    normalisation: Literal["group", "batch", "act", "spectral"] = "group"

    def __post_init__(self) -> None:
        for name in ("in_channels", "channels", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.normalisation == "group" and self.channels % 4:
            raise ValueError(f"channels must be a multiple of 4 for normalisation='group', not {self.channels}")

    def build(self) -> "NLayerDiscriminator":
        """Make the discriminator with fresh weights."""
        return NLayerDiscriminator(self)


class NLayerDiscriminator(nn.Module):
    """PatchGAN with ``num_layers`` halvings (arXiv:1611.07004).

    State-dict keys are the reference's (`main.N.*`); for ``"spectral"`` weights are `main.N.parametrizations.weight.*`.
    """

    def __init__(self, config: NLayerDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels * min(2**level, 8) for level in range(config.num_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(config.in_channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level in range(1, config.num_layers + 1):
            stride = 2 if level < config.num_layers else 1
            bias = config.normalisation != "batch"
            layers += [
                nn.Conv2d(widths[level - 1], widths[level], 4, stride=stride, padding=1, bias=bias),
                _normalisation(config.normalisation, widths[level]),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(widths[-1], 1, 4, stride=1, padding=1))
        self.main = nn.Sequential(*layers).apply(_initialise)
        if config.normalisation == "spectral":
            for layer in self.main:
                if isinstance(layer, nn.Conv2d):
                    spectral_norm(layer)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h2 w2"]:
        """Return one logit per patch, large where it looks real.

        Raises:
            UserError: the images are smaller than one patch needs.
        """
        smallest = 3 * 2**self.config.num_layers
        if min(images.shape[2:]) < smallest:
            raise UserError(
                f"a discriminator with num_layers={self.config.num_layers} needs images of at least {smallest} pixels, "
                f"not {images.shape[2]}x{images.shape[3]}: lower num_layers"
            )
        return self.main(images)


class ActNorm(nn.Module):
    """Per-channel ``scale * (x + loc)``, set from the first training batch to zero mean and unit deviation.

    Section 3.1, arXiv:1807.03039. The buffer ``initialized`` remembers that this has been done.
    """

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise ``x``; in training mode the first call sets the parameters."""
        if self.training and not self.initialized:
            self._initialise(x)
        return self.scale * (x + self.loc)

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        std, mean = torch.std_mean(x.float(), dim=(0, 2, 3), keepdim=True)
        self.loc.copy_(-mean)
        self.scale.copy_(1 / (std + 1e-6))
        self.initialized.fill_(1)


def _normalisation(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "act":
        return ActNorm(channels)
    if kind == "spectral":
        return nn.Identity()
    return nn.GroupNorm(math.gcd(32, channels // 4), channels)  # at least four channels in a group


def _initialise(module: nn.Module) -> None:
    """Weights of convolutions ~ N(0, 0.02), of normalisations ~ N(1, 0.02), as in the reference."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
