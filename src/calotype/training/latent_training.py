"""What training does differently for each kind of latents: a posterior with a KL, or codes of a codebook."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from calotype.models.quantisers import Codebook, Quantised, VectorQuantizer2
from calotype.models.vq_model import VQModel
from calotype.training.codebook import CodebookConfig, CodebookKeeper
from calotype.training.draws import Draws
from calotype.utils import distributed

Logs = dict[str, Tensor]
Change = Callable[[Tensor], Tensor]
COUNTED = 2**20


class LatentTraining(ABC):
    """``latents`` are what the forward pass returns beside the reconstructions.

    ``network(images, noise, change)`` is that pass; ``change`` is done to latents before they are decoded.
    ``auxiliary`` modules are needed to train on only.
    """

    network: nn.Module
    auxiliary: dict[str, nn.Module]

    @abstractmethod
    def noise(self, images: Float[Tensor, "b c h w"], draws: Draws) -> Tensor | None:
        """Draw what the forward pass takes, if it takes anything."""

    def before_step(self, images: Float[Tensor, "b c h w"], draws: Draws) -> None:  # noqa: B027 - one kind does nothing
        """Do what is to be done before the forward pass."""

    @abstractmethod
    def loss(self, latents: Any, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, ""], Logs]:
        """Return the weighted part of the loss that acts on the latents, and what to log."""

    def after_step(self, latents: Any, draws: Draws) -> Logs:  # noqa: ARG002
        """Do what is to be done once the weights have changed, and return what to log."""
        return {}

    def validate(self, latents: Sequence[Any]) -> dict[str, float]:  # noqa: ARG002
        """Measure the latents of all held-out batches."""
        return {}


class PosteriorTraining(LatentTraining):
    """Latents are sampled from a Gaussian posterior, and a KL keeps it in bounds."""

    def __init__(self, model: AutoencoderKL, loss: LPIPSWithDiscriminator) -> None:
        self.model, self.weights = model, loss
        self.network, self.auxiliary = _PosteriorPass(model), {}

    def noise(self, images: Float[Tensor, "b c h w"], draws: Draws) -> Tensor:
        """Draw standard normal noise of the latents' shape."""
        height, width = (side // self.model.factor for side in images.shape[2:])
        return draws.normal("posterior", self.model.latent_channels, height, width).to(images)

    def loss(
        self, latents: Float[Tensor, "b d h2 w2"], images: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, ""], Logs]:
        """Return the weighted KL; ``latents`` are the posterior's parameters."""
        kl = self.weights.kl_loss(DiagonalGaussianDistribution(latents), images[0].numel())
        per_image = images[0].numel() if self.weights.config.reduction == "mean" else 1
        nats = kl.detach() * per_image / (latents[0].numel() / 2)
        return self.weights.config.kl_weight * kl, {"kl": kl.detach(), "nats_per_latent": nats}


class Coded(NamedTuple):
    """Latents as they came to the quantiser (detached), and what it made of them."""

    z: Float[Tensor, "b c h w"]
    quantised: Quantised


class CodebookTraining(LatentTraining):
    """Latents are codes; the quantiser's loss moves latents and codes together, and a keeper looks after the codes.

    The use of codes is counted, but for grids of more than ``COUNTED``.
    """

    def __init__(self, model: VQModel, loss: VQLPIPSWithDiscriminator, config: CodebookConfig) -> None:
        self.model, self.weights = model, loss
        self.network, self.auxiliary = _CodePass(model), {}
        self.keeper: CodebookKeeper | None = None
        if isinstance(model.quantize, VectorQuantizer2) and model.quantize.used is None:
            self.keeper = self.auxiliary["codebook"] = CodebookKeeper(config, self._codebook)
            self._codebook.requires_grad_(config.average is None)

    @property
    def _codebook(self) -> Tensor:
        assert isinstance(self.model.quantize, VectorQuantizer2)
        return self.model.quantize.codebook

    @property
    def _counted(self) -> bool:
        return isinstance(self.model.quantize, Codebook) or self.model.quantize.codes <= COUNTED

    def noise(self, images: Float[Tensor, "b c h w"], draws: Draws) -> None:  # noqa: ARG002
        """Draw nothing: a quantiser that draws codes does so itself."""
        return

    def before_step(self, images: Float[Tensor, "b c h w"], draws: Draws) -> None:
        """Give the codes their places, if they have none yet."""
        if self.keeper is not None and not self.keeper.begun:
            with torch.no_grad():
                self.keeper.begin(self._codebook, self.model.encode(images).mode(), draws)

    def loss(self, latents: Coded, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, ""], Logs]:  # noqa: ARG002
        """Return the quantiser's weighted loss."""
        loss = latents.quantised.loss
        return self.weights.config.codebook_weight * loss, {"codebook_loss": loss.detach()}

    def after_step(self, latents: Coded, draws: Draws) -> Logs:
        """Tell how the codes are used, and move those that the keeper moves."""
        if not self._counted:
            return {}
        indices = latents.quantised.indices
        frequencies = distributed.average(code_frequencies(indices, self.model.quantize.codes))
        evenness, used = perplexity(frequencies)
        could = min(self.model.quantize.codes, indices.numel() * distributed.world_size())
        logs = {"perplexity": evenness, "codes_used": used.float(), "code_use": used / could}
        if self.keeper is None:
            return logs
        return logs | self.keeper.after_step(self._codebook, latents.z, indices, frequencies, draws)

    def validate(self, latents: Sequence[Quantised]) -> dict[str, float]:
        """Return how evenly the codes are used, and how many of them."""
        if not self._counted:
            return {}
        indices = torch.cat([each.indices.flatten() for each in latents])
        evenness, used = measure_perplexity(indices, self.model.quantize.codes)
        return {"perplexity": evenness.item(), "codes_used": float(used)}


class _PosteriorPass(nn.Module):
    def __init__(self, model: AutoencoderKL) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, noise: Tensor, change: Change) -> tuple[Tensor, Tensor]:
        posterior = self.model.encode(images)
        return self.model.decode(change(posterior.sample(noise))), posterior.parameters


class _CodePass(nn.Module):
    def __init__(self, model: VQModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, noise: None, change: Change) -> tuple[Tensor, Coded]:  # noqa: ARG002
        z = change(self.model.encode(images).mode())
        quantised = self.model.quantise(z)
        return self.model.decode(quantised.z, quantise=False), Coded(z.detach(), quantised)
