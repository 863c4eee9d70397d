"""What training does differently for each kind of latents: a posterior with a KL, or codes of a codebook."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calotype.losses import (
    LPIPSWithDiscriminator,
    VQLPIPSWithDiscriminator,
    code_frequencies,
    measure_perplexity,
    perplexity,
)
from calotype.models.autoencoder import AutoencoderKL
from calotype.models.distributions import DiagonalGaussianDistribution
from calotype.models.quantisers import Quantised, VectorQuantizer2
from calotype.models.vq_model import VQModel
from calotype.training.codebook import CodeRestarts
from calotype.training.draws import Draws
from calotype.utils import distributed

Logs = dict[str, Tensor]
COUNTED = 2**20


class LatentTraining(ABC):
    """``latents`` are what the model's forward pass returns beside the reconstructions.

    ``auxiliary`` modules are needed to train on only.
    """

    auxiliary: dict[str, nn.Module]

    @abstractmethod
    def noise(self, images: Float[Tensor, "b c h w"], draws: Draws) -> Tensor | None:
        """Draw what the forward pass takes, if it takes anything."""

    @abstractmethod
    def loss(self, latents: Any, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, ""], Logs]:
        """Return the weighted part of the loss that acts on the latents, and what to log."""

    def after_step(self, latents: Any, images: Float[Tensor, "b c h w"], draws: Draws) -> Logs:  # noqa: ARG002
        """Do what is to be done once the weights have changed, and return what to log."""
        return {}

    def validate(self, latents: Sequence[Any]) -> dict[str, float]:  # noqa: ARG002
        """Measure the latents of all held-out batches."""
        return {}


class PosteriorTraining(LatentTraining):
    """Latents are sampled from a Gaussian posterior, and a KL keeps it in bounds."""

    def __init__(self, model: AutoencoderKL, loss: LPIPSWithDiscriminator) -> None:
        self.model, self.weights = model, loss
        self.auxiliary = {}

    def noise(self, images: Float[Tensor, "b c h w"], draws: Draws) -> Tensor:
        """Draw standard normal noise of the latents' shape."""
        height, width = (side // self.model.factor for side in images.shape[2:])
        return draws.normal("posterior", self.model.latent_channels, height, width).to(images)

    def loss(
        self, latents: Float[Tensor, "b d h2 w2"], images: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, ""], Logs]:
        """Return the weighted KL; ``latents`` are the posterior's parameters."""
        kl = self.weights.kl_loss(DiagonalGaussianDistribution(latents), images[0].numel())
        return self.weights.config.kl_weight * kl, {"kl": kl.detach()}


class CodebookTraining(LatentTraining):
    """Latents are codes; the quantiser's loss moves latents and codes together, and idle codes start again.

    The use of more than ``COUNTED`` codes is not counted.
    """

    def __init__(self, model: VQModel, loss: VQLPIPSWithDiscriminator, restart_every: int) -> None:
        self.model, self.weights = model, loss
        quantiser = model.quantize
        self.codes = quantiser.codes
        by_number = isinstance(quantiser, VectorQuantizer2) and quantiser.used is None
        self.restarts = CodeRestarts(self.codes, restart_every) if by_number and restart_every else None
        self.auxiliary = {} if self.restarts is None else {"restarts": self.restarts}

    def noise(self, images: Float[Tensor, "b c h w"], draws: Draws) -> None:  # noqa: ARG002
        """Draw nothing: a quantiser that draws codes does so itself."""
        return

    def loss(self, latents: Quantised, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, ""], Logs]:  # noqa: ARG002
        """Return the quantiser's weighted loss."""
        return self.weights.config.codebook_weight * latents.loss, {"codebook_loss": latents.loss.detach()}

    def after_step(self, latents: Quantised, images: Float[Tensor, "b c h w"], draws: Draws) -> Logs:
        """Tell how the codes are used; when it is time, give those that are not a new start."""
        if self.codes > COUNTED:
            return {}
        frequencies = distributed.average(code_frequencies(latents.indices, self.codes))
        evenness, used = perplexity(frequencies)
        logs = {"perplexity": evenness, "codes_used": used.float()}
        if self.restarts is None:
            return logs
        self.restarts.note(frequencies > 0)
        if self.restarts.due(draws):
            with torch.no_grad():
                here = self.model.encode(images).mode()
            quantiser = self.model.quantize
            assert isinstance(quantiser, VectorQuantizer2)
            logs["codes_restarted"] = self.restarts.restart(quantiser.codebook, here, draws)
        return logs

    def validate(self, latents: Sequence[Quantised]) -> dict[str, float]:
        """Return how evenly the codes are used, and how many of them."""
        if self.codes > COUNTED:
            return {}
        indices = torch.cat([each.indices.flatten() for each in latents])
        evenness, used = measure_perplexity(indices, self.codes)
        return {"perplexity": evenness.item(), "codes_used": float(used)}
