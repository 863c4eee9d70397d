"""The loss of a vector-quantised autoencoder: reconstruction and discriminator, plus the quantiser's own loss.

Eq. 4 to 6 of arXiv:2012.09841.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from calotype.losses.reconstruction_with_discriminator import (
    ReconstructionWithDiscriminator,
    ReconstructionWithDiscriminatorConfig,
)


@dataclass(frozen=True, kw_only=True)
class VQLPIPSWithDiscriminatorConfig(ReconstructionWithDiscriminatorConfig):
    """Weights of the parts of the loss for a codebook; ``codebook_weight`` is that of the quantiser's loss."""

    kind: Literal["vq_lpips_with_discriminator"] = "vq_lpips_with_discriminator"
    codebook_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_not_negative("codebook_weight")

    def build(self) -> "VQLPIPSWithDiscriminator":
        """Make the loss with a fresh discriminator and, where one is asked for, the pretrained perceptual network."""
        return VQLPIPSWithDiscriminator(self)


class VQLPIPSWithDiscriminator(ReconstructionWithDiscriminator):
    """``nll + codebook_weight * codebook loss + adaptive weight * generator loss``, in pieces."""

    config: VQLPIPSWithDiscriminatorConfig

    def nll_loss(self, rec_loss: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """Return the mean of ``rec_loss`` over everything."""
        return rec_loss.mean()
