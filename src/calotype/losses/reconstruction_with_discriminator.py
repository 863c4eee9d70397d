"""What the losses of all autoencoders share: pixels, perceptual distance and a patch discriminator.

Section 3.1 and Appendix G of arXiv:2112.10752; the adaptive weight is Eq. 7 of arXiv:2012.09841.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calotype.losses.adversarial import adopt_weight, hinge_d_loss, vanilla_d_loss
from calotype.losses.discriminator import NLayerDiscriminatorConfig
from calotype.losses.discriminator_penalties import LeCam, r1_penalty
from calotype.losses.perceptual import PerceptualConfig, SqueezeNetPerceptualConfig
from calotype.losses.precision import at_least_float32
from calotype.losses.projected import ProjectedDistance
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class ReconstructionWithDiscriminatorConfig(Config):
    """Weights of what a loss says about images; the variants add what it says about latents.

    The discriminator starts at ``disc_start`` samples seen; what it says about the reconstructions counts from nothing
    to its full weight over the ``disc_ramp`` samples that follow. ``d_weight_cap`` is the most that the adaptive weight
    multiplies ``disc_weight`` by: with losses that are means it is about 0.1; sums, C*H*W times larger, need the
    reference's 1e4. ``r1_weight`` and ``lecam_weight`` restrain the discriminator
    (0: off). ``"multiscale_l1"`` averages L1 over block means of 1, 2, 4 and 8 pixels. Where ``perceptual_weight`` is 0
    the perceptual network does not run.
    """

    discriminator: NLayerDiscriminatorConfig = field(default_factory=NLayerDiscriminatorConfig)
    perceptual: PerceptualConfig = field(default_factory=SqueezeNetPerceptualConfig)
    perceptual_weight: float = 1.0
    disc_weight: float = 0.5
    disc_factor: float = 1.0
    disc_start: int
    disc_ramp: int = 0
    disc_loss: Literal["hinge", "vanilla"] = "hinge"
    d_weight_cap: float = 10.0
    r1_weight: float = 0.0
    lecam_weight: float = 0.0
    reconstruction: Literal["l1", "l2", "multiscale_l1"] = "l1"

    def __post_init__(self) -> None:
        self._check_not_negative("perceptual_weight", "disc_weight", "disc_factor", "disc_start", "disc_ramp")
        self._check_not_negative("d_weight_cap", "r1_weight", "lecam_weight")

    def _check_not_negative(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")


@dataclass(frozen=True)
class GeneratorTerms:
    """The generator's side of a step: the gradient for the backward pass and detached values for the log.

    ``gradient`` is that of ``nll + adaptive_weight * generator_factor * generator_loss`` with respect to the
    reconstructions; ``perceptual_loss`` is the mean distance, before its weight; ``disc_factor`` is that of the
    discriminator's own loss. ``logvar_gradient`` is that of ``nll`` with respect to the loss's log-variance, if it has
    one.
    """

    gradient: Float[Tensor, "b c h w"]
    logvar_gradient: Float[Tensor, ""] | None
    reconstruction_loss: Float[Tensor, ""]
    perceptual_loss: Float[Tensor, ""]
    nll: Float[Tensor, ""]
    generator_loss: Float[Tensor, ""]
    adaptive_weight: Float[Tensor, ""]
    disc_factor: float


class ReconstructionWithDiscriminator(nn.Module, ABC):
    """The parts of the loss, in pieces for a recipe that runs the autoencoder once per step.

    State-dict keys are the reference's: `perceptual_loss.*`, `discriminator.*`, and `lecam.*` where that is on. Where
    the discriminator is conditional, ``condition`` (b, k, h, w) is joined to its images over channels.
    """

    config: ReconstructionWithDiscriminatorConfig
    logvar: nn.Parameter | None

    def __init__(self, config: ReconstructionWithDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.register_parameter("logvar", None)
        self.perceptual_loss: nn.Module = config.perceptual.build()
        self.discriminator = config.discriminator.build()
        self.lecam = LeCam() if config.lecam_weight else None

    @abstractmethod
    def nll_loss(self, rec_loss: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """Return the negative log-likelihood of the images for their ``reconstruction_loss``."""

    def pixel_loss(
        self, inputs: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Return how far the pixels are apart."""
        return _PIXEL_LOSSES[self.config.reconstruction](inputs - reconstructions)

    def perceptual_distance(
        self,
        inputs: Float[Tensor, "b c h w"],
        reconstructions: Float[Tensor, "b c h w"],
        projections: torch.Generator | None = None,
    ) -> Float[Tensor, "b 1 1 1"]:
        """Return how far the images look apart, before ``perceptual_weight``; zeros where that is 0.

        ``projections`` draws what a ``ProjectedDistance`` sees of the channels.
        """
        if not self.config.perceptual_weight:
            return at_least_float32(reconstructions.new_zeros(len(reconstructions), 1, 1, 1))
        if isinstance(self.perceptual_loss, ProjectedDistance):
            return self.perceptual_loss(inputs, reconstructions, projections)
        return self.perceptual_loss(inputs, reconstructions)

    def reconstruction_loss(
        self, inputs: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the pixel loss plus ``perceptual_weight`` times each image's perceptual distance, per pixel."""
        distance = self.perceptual_distance(inputs, reconstructions)
        return self.pixel_loss(inputs, reconstructions) + self.config.perceptual_weight * distance

    def generator_loss(
        self, reconstructions: Float[Tensor, "b c h w"], condition: Float[Tensor, "b k h w"] | None = None
    ) -> Float[Tensor, ""]:
        """Return ``-mean D(reconstructions)``."""
        return -self._logits(reconstructions, condition).mean()

    def adaptive_weight(
        self, nll_grad: Float[Tensor, "..."], generator_grad: Float[Tensor, "..."]
    ) -> Float[Tensor, ""]:
        """Return ``disc_weight * min(|nll_grad| / (|generator_grad| + 1e-4), d_weight_cap)``, in at least float32.

        Both are gradients with respect to the decoder's last weight (Eq. 7, arXiv:2012.09841).
        """
        nll_norm, generator_norm = (
            torch.linalg.vector_norm(at_least_float32(grad.detach())) for grad in (nll_grad, generator_grad)
        )
        return self.config.disc_weight * (nll_norm / (generator_norm + 1e-4)).clamp(0.0, self.config.d_weight_cap)

    def disc_factor_at(self, samples_seen: int) -> float:
        """Return ``disc_factor`` from ``disc_start`` samples on, 0 before."""
        return adopt_weight(self.config.disc_factor, samples_seen, self.config.disc_start)

    def generator_factor_at(self, samples_seen: int) -> float:
        """Return ``disc_factor_at``, times the share of the ramp that lies behind."""
        behind = samples_seen - self.config.disc_start
        ramp = min(1.0, behind / self.config.disc_ramp) if self.config.disc_ramp else 1.0
        return self.disc_factor_at(samples_seen) * ramp

    def discriminator_loss(
        self,
        inputs: Float[Tensor, "b c h w"],
        reconstructions: Float[Tensor, "b c h w"],
        condition: Float[Tensor, "b k h w"] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Return the discriminator's loss (without ``disc_factor``) and its mean logits; no gradient leaves it.

        Penalties are part of the loss and logged beside it. After the discriminator's update, tell ``lecam`` (where it
        is on) the logits.
        """
        shown = inputs.detach().requires_grad_(self.config.r1_weight > 0)
        real = self._logits(shown, condition)
        fake = self._logits(reconstructions.detach(), condition)
        loss = hinge_d_loss(real, fake) if self.config.disc_loss == "hinge" else vanilla_d_loss(real, fake)
        logs = {"logits_real": real.detach().mean(), "logits_fake": fake.detach().mean()}
        if self.config.r1_weight:
            penalty = r1_penalty(shown, real)
            loss, logs["r1"] = loss + self.config.r1_weight / 2 * penalty, penalty.detach()
        if self.lecam is not None:
            penalty = self.lecam(real, fake)
            loss, logs["lecam"] = loss + self.config.lecam_weight * penalty, penalty.detach()
        return loss, logs

    def generator_step_gradients(
        self,
        inputs: Float[Tensor, "b c h w"],
        reconstructions: Float[Tensor, "b c h w"],
        last_layer: Tensor,
        samples_seen: int,
        *,
        condition: Float[Tensor, "b k h w"] | None = None,
        projections: torch.Generator | None = None,
        average: Callable[[Tensor], Tensor] = lambda gradient: gradient,
    ) -> GeneratorTerms:
        """Return the gradient of ``nll + adaptive_weight * generator_factor * generator_loss`` w.r.t. reconstructions.

        Each loss network is passed backwards once: the gradients at ``last_layer``, which set the adaptive weight,
        follow from those at the reconstructions. The autoencoder is then passed backwards once as well, by
        ``torch.autograd.backward([reconstructions, latent_loss], [terms.gradient, latent_weight])``. No ``grad`` field
        is touched here. Before ``disc_start`` the discriminator does not run. ``projections`` are those of
        ``perceptual_distance``; ``average`` averages a tensor over the ranks of a distributed run.
        """
        leaf = at_least_float32(reconstructions.detach()).requires_grad_()
        distance = self.perceptual_distance(inputs, leaf, projections)
        rec_loss = self.pixel_loss(inputs, leaf) + self.config.perceptual_weight * distance
        nll = self.nll_loss(rec_loss)
        gradient, *of_logvar = torch.autograd.grad(nll, [leaf] if self.logvar is None else [leaf, self.logvar])

        generator_loss, adaptive_weight = torch.zeros_like(nll), torch.zeros_like(nll)
        disc_factor = self.disc_factor_at(samples_seen)
        if disc_factor > 0:
            generator_loss = self.generator_loss(leaf, condition)
            (generator_gradient,) = torch.autograd.grad(generator_loss, leaf)

            def at_last_layer(gradient: Tensor) -> Tensor:
                output = gradient.to(reconstructions.dtype)
                return average(*torch.autograd.grad(reconstructions, last_layer, output, retain_graph=True))

            adaptive_weight = self.adaptive_weight(at_last_layer(gradient), at_last_layer(generator_gradient))
            gradient = gradient + adaptive_weight * self.generator_factor_at(samples_seen) * generator_gradient

        return GeneratorTerms(
            gradient=gradient.to(reconstructions.dtype),
            logvar_gradient=of_logvar[0] if of_logvar else None,
            reconstruction_loss=rec_loss.detach().mean(),
            perceptual_loss=distance.detach().mean(),
            nll=nll.detach(),
            generator_loss=generator_loss.detach(),
            adaptive_weight=adaptive_weight,
            disc_factor=disc_factor,
        )

    def _logits(self, images: Tensor, condition: Tensor | None) -> Tensor:
        logits = self.discriminator(images if condition is None else torch.cat([images, condition], dim=1))
        return at_least_float32(logits)


def _multiscale_l1(difference: Tensor) -> Tensor:
    """Mean over scales 1, 2, 4, 8 of the absolute block means, per pixel: errors of low frequency count fully."""
    height, width = difference.shape[2:]
    total = difference.abs()
    for scale in (2, 4, 8):
        blocks = F.avg_pool2d(difference, scale, ceil_mode=True, count_include_pad=False).abs()
        total = total + F.interpolate(blocks, scale_factor=scale)[:, :, :height, :width]
    return total / 4


_PIXEL_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": torch.abs,
    "l2": torch.square,
    "multiscale_l1": _multiscale_l1,
}
