"""`VQModel`: an autoencoder whose latents are decoded from the codes of a codebook."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.models.autoencoder import ConvolutionalAutoencoder, ConvolutionalAutoencoderConfig
from calotype.models.distributions import DiracDistribution
from calotype.models.quantisers import FSQConfig, Quantised, QuantiserConfig


@dataclass(frozen=True, kw_only=True)
class VQModelConfig(ConvolutionalAutoencoderConfig):
    """Shape of an autoencoder with a quantiser; its codes have ``latent_channels`` numbers each."""

    kind: Literal["vq_model"] = "vq_model"
    quantiser: QuantiserConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.quantiser, FSQConfig):
            self.quantiser.check_channels(self.latent_channels)

    def build(self) -> "VQModel":
        """Make the autoencoder with fresh weights."""
        return VQModel(self)


class VQModel(ConvolutionalAutoencoder):
    """A VQGAN (arXiv:2012.09841, Section 3.1) that quantises as a part of decoding.

    Latents are what the encoder says, before any quantisation: that is where a diffusion model is trained
    (arXiv:2112.10752, Section 3.1), and what the reference calls ``VQModelInterface``. With ``FSQ`` they are bounded
    already, so that equal steps lead from code to code and no latent is far outside. State-dict keys are the
    reference's (those of ``ConvolutionalAutoencoder`` and `quantize.*`).
    """

    def __init__(self, config: VQModelConfig) -> None:
        super().__init__(config, parameters_per_latent=1)
        self.quantize = config.quantiser.build(config.latent_channels)

    def encode(self, images: Float[Tensor, "b c h w"]) -> DiracDistribution:
        """Return the latents before quantisation ``(b, latent_channels, h / factor, w / factor)``, a point mass.

        Raises:
            ValueError: height or width is not a multiple of ``factor``, or the channels do not fit.
        """
        return DiracDistribution(self.quantize.bound(self.latent_parameters(images)))

    def quantise(
        self,
        z: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b n h w"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Quantised:
        """Replace raw latents by codes; ``noise`` and ``generator`` are those of the quantiser."""
        return self.quantize(z, noise, generator=generator)

    def decode(self, z: Float[Tensor, "b c h w"], quantise: bool = True) -> Float[Tensor, "b d h2 w2"]:
        """Return images in about [-1, 1] (not clamped) for raw latents, quantised unless they are already codes."""
        return super().decode(self.quantise(z).z if quantise else z)

    def forward(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b n h2 w2"] | None = None
    ) -> tuple[Float[Tensor, "b d h3 w3"], Quantised]:
        """Reconstruct through the codes; return them with the reconstruction (``noise``: see ``quantise``)."""
        quantised = self.quantise(self.encode(images).mode(), noise)
        return self.decode(quantised.z, quantise=False), quantised
