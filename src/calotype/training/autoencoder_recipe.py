"""One training step of an autoencoder: a single forward pass, from which autoencoder and discriminator both learn."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from calotype.data.batch import Batch
from calotype.data.loader import Loader
from calotype.evaluation.reconstruction import psnr, ssim
from calotype.losses import (
    AutoencoderLossConfig,
    LPIPSWithDiscriminator,
    LPIPSWithDiscriminatorConfig,
    VQLPIPSWithDiscriminator,
)
from calotype.losses.reconstruction_with_discriminator import ReconstructionWithDiscriminator
from calotype.models.autoencoder import AutoencoderKL, AutoencoderKLConfig
from calotype.models.vq_model import VQModel, VQModelConfig
from calotype.training.codebook import CodebookConfig
from calotype.training.draws import Draws
from calotype.training.encode import latent_statistics
from calotype.training.initial_weights import InitialWeights
from calotype.training.latent_rgb import latent_to_rgb
from calotype.training.latent_training import CodebookTraining, LatentTraining, PosteriorTraining
from calotype.training.optimiser import OptimiserConfig, check_finite, check_gradients
from calotype.training.recipe import Recipe
from calotype.training.regularisers import DecoderNoiseConfig, EquivarianceConfig, add_noise, draw_transformation
from calotype.training.session import Session
from calotype.utils import distributed
from calotype.utils.config import Config, to_dict
from calotype.utils.images import image_grid
from calotype.utils.seeds import generator

STATISTICS_IMAGES = 1024
PREVIEWS = 12


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipeConfig(Config):
    """An autoencoder, its loss and its optimisers. A loss with a KL fits a posterior, one with codes a quantiser.

    ``disc_from`` is the share of the run after which the discriminator joins (1: never), ``disc_ramp`` the share over
    which the autoencoder comes to feel it; once the run's length is known they set the loss's ``disc_start`` and
    ``disc_ramp``.

    ``codebook`` says how the codes of a ``VectorQuantizer2`` are found. ``equivariance`` and ``decoder_noise`` change
    latents on their way to the decoder. With ``learn_logvar`` the loss's log-variance, which weighs the reconstruction
    against the KL, is trained as well.
    """

    autoencoder: Annotated[AutoencoderKLConfig | VQModelConfig, Field(discriminator="kind")]
    loss: AutoencoderLossConfig
    disc_from: float = 1.0
    disc_ramp: float = 0.0
    codebook: CodebookConfig = CodebookConfig()
    equivariance: EquivarianceConfig | None = None
    decoder_noise: DecoderNoiseConfig | None = None
    learn_logvar: bool = False
    optimiser: OptimiserConfig = OptimiserConfig(learning_rate=1e-3)
    discriminator_optimiser: OptimiserConfig = OptimiserConfig(learning_rate=4e-4, betas=(0.5, 0.9))

    def __post_init__(self) -> None:
        if not 0 <= self.disc_ramp <= 1:
            raise ValueError(f"disc_ramp must be between 0 and 1, not {self.disc_ramp}")
        if isinstance(self.autoencoder, VQModelConfig) == isinstance(self.loss, LPIPSWithDiscriminatorConfig):
            raise ValueError(f"loss {self.loss.kind} does not fit autoencoder {self.autoencoder.kind}")
        if self.learn_logvar and not isinstance(self.loss, LPIPSWithDiscriminatorConfig):
            raise ValueError(f"learn_logvar: the loss {self.loss.kind} has no log-variance")


class AutoencoderRecipe(Recipe):
    """Trains ``AutoencoderKL`` with ``LPIPSWithDiscriminator``, or ``VQModel`` with ``VQLPIPSWithDiscriminator``.

    Section 3.1 of arXiv:2112.10752.

    ``train`` is read for latent statistics, ``held_out`` for validation and previews; ``initial`` weights are optional.
    """

    kind = "autoencoder"
    watched = "reconstruction"

    def __init__(
        self,
        config: AutoencoderRecipeConfig,
        train: Loader,
        held_out: Loader | None = None,
        initial: InitialWeights | None = None,
    ) -> None:
        self.config, self.train, self.held_out, self.initial = config, train, held_out, initial
        self.model = config.autoencoder.build()
        if initial is not None:
            self.model.load_state_dict(initial.state)
        self.loss = config.loss.build()
        self.averaged = {"autoencoder": self.model}
        self.latent_training = _latent_training(self.model, self.loss, config.codebook)
        self.auxiliary = {"discriminator": self.loss.discriminator, **self.latent_training.auxiliary}
        if self.loss.lecam is not None:
            self.auxiliary["lecam"] = self.loss.lecam
        self.learned = nn.ParameterDict({"logvar": self.loss.logvar} if config.learn_logvar else {})
        if self.learned:
            self.auxiliary["learned"] = self.learned
        self.late_from = config.disc_from
        self.disc_weight = config.loss.disc_weight if config.disc_from < 1 else 0.0

    def start(self, session: Session, batch_size: int) -> None:  # noqa: ARG002
        """Move to the device and build both optimisers."""
        self.session = session
        self.model.to(session.device).train()
        self.loss.to(session.device).train()
        for module in self.latent_training.auxiliary.values():
            module.to(session.device)
        self.forward = session.wrap(self.latent_training.network)
        self.discriminate = session.wrap(_DiscriminatorLoss(self.loss))
        self.optimiser = self.config.optimiser.build([*self.model.parameters(), *self.learned.values()])
        self.discriminator_optimiser = self.config.discriminator_optimiser.build(self.loss.discriminator.parameters())
        self.optimisers = {
            "autoencoder": (self.optimiser, self.config.optimiser),
            "discriminator": (self.discriminator_optimiser, self.config.discriminator_optimiser),
        }

    def begin(self, total: int) -> None:
        """Fix the samples at which the discriminator joins and has its full weight."""
        start, ramp = (round(share * total) for share in (self.config.disc_from, self.config.disc_ramp))
        self.loss.config = replace(self.loss.config, disc_start=start, disc_ramp=ramp)

    def scale_discriminator(self, factor: float) -> None:
        """Multiply ``disc_weight`` by ``factor``."""
        self.loss.config = replace(self.loss.config, disc_weight=factor * self.config.loss.disc_weight)

    def step(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Reconstruct once; update the autoencoder and, once it has joined, the discriminator from the same images.

        The generator's gradient with respect to the reconstructions carries pixels, perception and the discriminator's
        opinion (weighted so that its gradient at the last layer is ``disc_weight`` times that of the rest); the KL or
        the codebook's loss goes its own way through the latents. It is taken before the discriminator moves, and
        applied after.
        """
        images = batch.images.to(self.model.last_layer)
        transform = draw_transformation(self.config.equivariance, draws, images.shape[2:], self.model.factor)
        targets = transform(images, self.model.factor)
        with self.session.autocast():
            self.latent_training.before_step(images, draws)
            reconstructions, latents = self.forward(
                images,
                self.latent_training.noise(images, draws),
                lambda z: add_noise(transform(z), self.config.decoder_noise, draws),
            )
            terms = self.loss.generator_step_gradients(
                targets,
                reconstructions,
                self.model.last_layer,
                draws.seen,
                projections=generator(draws.seed, "perceptual", draws.seen),
                average=distributed.average,
            )
        latent_loss, latent_logs = self.latent_training.loss(latents, images)
        total = terms.nll + latent_loss.detach()
        check_finite(torch.stack([total, terms.generator_loss]), "the autoencoder's loss")
        self.optimiser.zero_grad(set_to_none=True)
        outputs, gradients = [reconstructions], [terms.gradient]
        if latent_loss.requires_grad:
            outputs, gradients = [*outputs, latent_loss], [*gradients, torch.ones_like(latent_loss)]
        torch.autograd.backward(outputs, gradients)
        if self.config.learn_logvar:
            assert self.loss.logvar is not None
            assert terms.logvar_gradient is not None
            self.loss.logvar.grad = distributed.average(terms.logvar_gradient)
        norm = check_gradients(self.optimiser, self.config.optimiser.clip, "the autoencoder")
        logs = {"loss": total, "reconstruction": terms.reconstruction_loss, "perceptual": terms.perceptual_loss}
        logs |= latent_logs | {"gradient_norm": norm}
        logs |= {name: parameter.detach().clone() for name, parameter in self.learned.items()}

        if terms.disc_factor > 0:
            with self.session.autocast():
                disc_loss, logits = self.discriminate(targets, reconstructions.detach())
            check_finite(disc_loss.detach(), "the discriminator's loss")
            self.discriminator_optimiser.zero_grad(set_to_none=True)
            (terms.disc_factor * disc_loss).backward()
            check_gradients(self.discriminator_optimiser, self.config.discriminator_optimiser.clip, "the discriminator")
            self.discriminator_optimiser.step()
            if self.loss.lecam is not None:
                self.loss.lecam.update(*(distributed.average(logits[key]) for key in ("logits_real", "logits_fake")))
            logs |= {"disc_loss": disc_loss.detach(), "d_weight": terms.adaptive_weight, **logits}
            logs |= {"generator_loss": terms.generator_loss}
        self.optimiser.step()
        return logs | self.latent_training.after_step(latents, draws)

    @torch.no_grad()
    def validate(self, averaged: Mapping[str, nn.Module]) -> dict[str, float]:
        """Return PSNR (dB) and SSIM of the mode's reconstruction over the held-out images, and how codes are used."""
        if self.held_out is None:
            return {}
        scores, latents = [], []
        for batch in self.held_out.all(64):
            images = batch.images.to(self.model.last_layer)
            decoded, encoded = averaged["autoencoder"](images)
            reconstructions = decoded.clamp(-1, 1).float()
            scores.append(torch.stack([psnr(images, reconstructions), ssim(images, reconstructions)]))
            latents.append(encoded)
        mean_psnr, mean_ssim = torch.cat(scores, dim=1).mean(dim=1).tolist()
        return {"psnr": mean_psnr, "ssim": mean_ssim, **self.latent_training.validate(latents)}

    @torch.no_grad()
    def preview(self, averaged: Mapping[str, nn.Module]) -> np.ndarray | None:
        """Draw held-out originals in the upper row, their reconstructions in the lower one."""
        loader = self.held_out or self.train
        images = next(loader.all(PREVIEWS)).images[:PREVIEWS]
        reconstructions = averaged["autoencoder"](images.to(self.model.last_layer))[0].float().cpu()
        return image_grid(torch.cat([images, reconstructions]), columns=len(images))

    def artifact_config(self, averaged: Mapping[str, nn.Module], complete: bool) -> dict[str, Any]:
        """Return what the artifact stores: shape, pixel format, and latent statistics of the averaged weights."""
        model = averaged["autoencoder"]
        shift, scale = latent_statistics(
            model,  # type: ignore[arg-type]
            self.train,
            limit=None if complete else STATISTICS_IMAGES,
        )
        rgb = latent_to_rgb(model, self.train, shift=shift, scale=scale, limit=STATISTICS_IMAGES)  # type: ignore[arg-type]
        return {
            "autoencoder": to_dict(self.config.autoencoder),
            "pixel_format": to_dict(self.train.images.pixel_format),
            "size": self.train.transform.size,
            "latent": {"shift": shift, "scale": scale, "rgb": to_dict(rgb)},
        }

    def recipe_config(self) -> dict[str, Any]:
        """Return the configuration with the data it is trained on and the name of the weights it begins with."""
        data = {"images": len(self.train), "fingerprint": self.train.images.fingerprint}
        settings = {"kind": self.kind, **to_dict(self.config), "data": data, "transform": to_dict(self.train.transform)}
        return settings | ({"initial": self.initial.name} if self.initial else {})


def _latent_training(
    model: AutoencoderKL | VQModel, loss: ReconstructionWithDiscriminator, codebook: CodebookConfig
) -> LatentTraining:
    if isinstance(model, VQModel):
        assert isinstance(loss, VQLPIPSWithDiscriminator)
        return CodebookTraining(model, loss, codebook)
    assert isinstance(loss, LPIPSWithDiscriminator)
    return PosteriorTraining(model, loss)


class _DiscriminatorLoss(nn.Module):
    """The discriminator's loss as a module, so that it can be wrapped for several processes."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.discriminator, self._loss = loss.discriminator, [loss]

    def forward(self, images: Tensor, reconstructions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss[0].discriminator_loss(images, reconstructions)
