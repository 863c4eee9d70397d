"""The loss of an autoencoder with a KL posterior: reconstruction and discriminator, plus the KL of its latents."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calotype.losses.reconstruction_with_discriminator import (
    ReconstructionWithDiscriminator,
    ReconstructionWithDiscriminatorConfig,
)


@dataclass(frozen=True, kw_only=True)
class LPIPSWithDiscriminatorConfig(ReconstructionWithDiscriminatorConfig):
    """Weights of the parts of the loss for a KL posterior.

    ``reduction="mean"`` divides the reconstruction loss and the KL by the image's C*H*W, so that the weights mean the
    same at every size; ``"sum"`` is the reference's sum over everything / batch.
    """

    kind: Literal["lpips_with_discriminator"] = "lpips_with_discriminator"
    kl_weight: float = 1e-6
    logvar_init: float = 0.0
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_not_negative("kl_weight")

    def build(self) -> "LPIPSWithDiscriminator":
        """Make the loss with a fresh discriminator and, where one is asked for, the pretrained perceptual network."""
        return LPIPSWithDiscriminator(self)


@runtime_checkable
class HasKL(Protocol):
    """A posterior as far as this loss needs it."""

    def kl(self) -> Float[Tensor, " b"]:
        """Return the KL divergence from the standard normal, in nats per example."""


class LPIPSWithDiscriminator(ReconstructionWithDiscriminator):
    """``nll + kl_weight * kl + adaptive weight * generator loss``, in pieces.

    Beside those of the base class there is the state-dict key `logvar`: the log-variance of all pixels.
    """

    config: LPIPSWithDiscriminatorConfig
    logvar: nn.Parameter

    def __init__(self, config: LPIPSWithDiscriminatorConfig) -> None:
        super().__init__(config)
        self.logvar = nn.Parameter(torch.tensor(config.logvar_init))

    def nll_loss(
        self, rec_loss: Float[Tensor, "b c h w"], weights: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, ""]:
        """Return the negative log-likelihood ``rec_loss / exp(logvar) + logvar`` per image.

        ``weights`` broadcast against the pixels.
        """
        nll = rec_loss / torch.exp(self.logvar) + self.logvar
        weighted = nll if weights is None else weights * nll
        return self._reduce(weighted.sum() / len(nll), rec_loss[0].numel())

    def kl_loss(self, posterior: HasKL, image_numel: int) -> Float[Tensor, ""]:
        """Return the posterior's mean KL per image; ``image_numel`` is C*H*W of the image, not of the latent."""
        return self._reduce(posterior.kl().mean(), image_numel)

    def _reduce(self, per_image: Tensor, image_numel: int) -> Tensor:
        return per_image / image_numel if self.config.reduction == "mean" else per_image
