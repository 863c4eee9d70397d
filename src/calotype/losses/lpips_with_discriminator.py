"""The loss of an autoencoder with a KL posterior: pixels, perceptual distance, KL and a patch discriminator.

Section 3.1 and Appendix G of arXiv:2112.10752; the adaptive weight is Eq. 7 of arXiv:2012.09841.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calotype.losses.adversarial import adopt_weight, hinge_d_loss, vanilla_d_loss
from calotype.losses.discriminator import NLayerDiscriminatorConfig
from calotype.losses.perceptual import PerceptualConfig, SqueezeNetPerceptualConfig
from calotype.losses.precision import at_least_float32
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class LPIPSWithDiscriminatorConfig(Config):
    """Weights of the parts of an autoencoder's loss.

    The discriminator starts at ``disc_start`` samples seen. ``reduction="mean"`` divides the reconstruction loss and
    the KL by the image's C*H*W, so that the weights mean the same at every size; ``"sum"`` is the reference's sum over
    everything / batch. ``"multiscale_l1"`` averages L1 over block means of 1, 2, 4 and 8 pixels.
    """

    discriminator: NLayerDiscriminatorConfig = field(default_factory=NLayerDiscriminatorConfig)
    perceptual: PerceptualConfig = field(default_factory=SqueezeNetPerceptualConfig)
    perceptual_weight: float = 1.0
    kl_weight: float = 1e-6
    disc_weight: float = 0.5
    disc_factor: float = 1.0
    disc_start: int
    disc_loss: Literal["hinge", "vanilla"] = "hinge"
    logvar_init: float = 0.0
    reconstruction: Literal["l1", "l2", "multiscale_l1"] = "l1"
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        for name in ("perceptual_weight", "kl_weight", "disc_weight", "disc_factor", "disc_start"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")

    def build(self) -> "LPIPSWithDiscriminator":
        """Make the loss with a fresh discriminator and, where one is asked for, the pretrained perceptual network."""
        return LPIPSWithDiscriminator(self)


@runtime_checkable
class HasKL(Protocol):
    """A posterior as far as this loss needs it."""

    def kl(self) -> Float[Tensor, " b"]:
        """Return the KL divergence from the standard normal, in nats per example."""


@dataclass(frozen=True)
class GeneratorTerms:
    """The generator's side of a step: gradients for the backward pass and detached values for the log.

    ``gradient`` is that of ``nll + adaptive_weight * disc_factor * generator_loss`` with respect to the
    reconstructions, ``logvar_gradient`` that with respect to ``logvar`` (None where it does not require one).
    """

    gradient: Float[Tensor, "b c h w"]
    logvar_gradient: Float[Tensor, ""] | None
    reconstruction_loss: Float[Tensor, ""]
    nll: Float[Tensor, ""]
    generator_loss: Float[Tensor, ""]
    adaptive_weight: Float[Tensor, ""]
    disc_factor: float


class LPIPSWithDiscriminator(nn.Module):
    """The parts of the loss, in pieces for a recipe that runs the autoencoder once per step.

    State-dict keys are the reference's: `logvar`, `perceptual_loss.*`, `discriminator.*`. Where the discriminator is
    conditional, ``condition`` (b, k, h, w) is joined to its images over channels.
    """

    def __init__(self, config: LPIPSWithDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.logvar = nn.Parameter(torch.tensor(config.logvar_init))
        self.perceptual_loss: nn.Module = config.perceptual.build()
        self.discriminator = config.discriminator.build()

    def reconstruction_loss(
        self, inputs: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the pixel loss plus ``perceptual_weight`` times each image's perceptual distance, per pixel."""
        difference = inputs - reconstructions
        pixels = _PIXEL_LOSSES[self.config.reconstruction](difference)
        return pixels + self.config.perceptual_weight * self.perceptual_loss(inputs, reconstructions)

    def nll_loss(
        self, rec_loss: Float[Tensor, "b c h w"], weights: Float[Tensor, "..."] | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the negative log-likelihood ``rec_loss / exp(logvar) + logvar``, weighted and unweighted.

        ``weights`` broadcast against the pixels.
        """
        nll = rec_loss / torch.exp(self.logvar) + self.logvar
        weighted = nll if weights is None else weights * nll
        numel = rec_loss[0].numel()
        return self._reduce(weighted.sum() / len(nll), numel), self._reduce(nll.sum() / len(nll), numel)

    def kl_loss(self, posterior: HasKL, image_numel: int) -> Float[Tensor, ""]:
        """Return the posterior's mean KL per image; ``image_numel`` is C*H*W of the image, not of the latent."""
        return self._reduce(posterior.kl().mean(), image_numel)

    def generator_loss(
        self, reconstructions: Float[Tensor, "b c h w"], condition: Float[Tensor, "b k h w"] | None = None
    ) -> Float[Tensor, ""]:
        """Return ``-mean D(reconstructions)``."""
        return -self._logits(reconstructions, condition).mean()

    def adaptive_weight(
        self, nll_grad: Float[Tensor, "..."], generator_grad: Float[Tensor, "..."]
    ) -> Float[Tensor, ""]:
        """Return ``disc_weight * clamp(|nll_grad| / (|generator_grad| + 1e-4), 0, 1e4)``, in at least float32.

        Both are gradients with respect to the decoder's last weight (Eq. 7, arXiv:2012.09841).
        """
        nll_norm, generator_norm = (
            torch.linalg.vector_norm(at_least_float32(grad.detach())) for grad in (nll_grad, generator_grad)
        )
        return self.config.disc_weight * (nll_norm / (generator_norm + 1e-4)).clamp(0.0, 1e4)

    def disc_factor_at(self, samples_seen: int) -> float:
        """Return ``disc_factor`` from ``disc_start`` samples on, 0 before."""
        return adopt_weight(self.config.disc_factor, samples_seen, self.config.disc_start)

    def discriminator_loss(
        self,
        inputs: Float[Tensor, "b c h w"],
        reconstructions: Float[Tensor, "b c h w"],
        condition: Float[Tensor, "b k h w"] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """Return the discriminator's loss (without ``disc_factor``) and its mean logits; no gradient leaves it."""
        real = self._logits(inputs.detach(), condition)
        fake = self._logits(reconstructions.detach(), condition)
        loss = hinge_d_loss(real, fake) if self.config.disc_loss == "hinge" else vanilla_d_loss(real, fake)
        return loss, {"logits_real": real.detach().mean(), "logits_fake": fake.detach().mean()}

    def generator_step_gradients(
        self,
        inputs: Float[Tensor, "b c h w"],
        reconstructions: Float[Tensor, "b c h w"],
        last_layer: Tensor,
        samples_seen: int,
        *,
        condition: Float[Tensor, "b k h w"] | None = None,
        average: Callable[[Tensor], Tensor] = lambda gradient: gradient,
    ) -> GeneratorTerms:
        """Return the gradient of ``nll + adaptive_weight * disc_factor * generator_loss`` w.r.t. the reconstructions.

        Each loss network is passed backwards once: the gradients at ``last_layer``, which set the adaptive weight,
        follow from those at the reconstructions. The autoencoder is then passed backwards once as well, by
        ``torch.autograd.backward([reconstructions, kl], [terms.gradient, kl_weight])``. No ``grad`` field is touched
        here. Before ``disc_start`` the discriminator does not run. ``average`` averages a tensor over the ranks of a
        distributed run.
        """
        leaf = at_least_float32(reconstructions.detach()).requires_grad_()
        rec_loss = self.reconstruction_loss(inputs, leaf)
        _, nll = self.nll_loss(rec_loss)
        wanted = [leaf, self.logvar] if self.logvar.requires_grad else [leaf]
        gradient, *logvar_gradient = torch.autograd.grad(nll, wanted)

        generator_loss, adaptive_weight = torch.zeros_like(nll), torch.zeros_like(nll)
        disc_factor = self.disc_factor_at(samples_seen)
        if disc_factor > 0:
            generator_loss = self.generator_loss(leaf, condition)
            (generator_gradient,) = torch.autograd.grad(generator_loss, leaf)

            def at_last_layer(gradient: Tensor) -> Tensor:
                output = gradient.to(reconstructions.dtype)
                return average(*torch.autograd.grad(reconstructions, last_layer, output, retain_graph=True))

            adaptive_weight = self.adaptive_weight(at_last_layer(gradient), at_last_layer(generator_gradient))
            gradient = gradient + adaptive_weight * disc_factor * generator_gradient

        return GeneratorTerms(
            gradient=gradient.to(reconstructions.dtype),
            logvar_gradient=logvar_gradient[0] if logvar_gradient else None,
            reconstruction_loss=rec_loss.detach().mean(),
            nll=nll.detach(),
            generator_loss=generator_loss.detach(),
            adaptive_weight=adaptive_weight,
            disc_factor=disc_factor,
        )

    def _logits(self, images: Tensor, condition: Tensor | None) -> Tensor:
        logits = self.discriminator(images if condition is None else torch.cat([images, condition], dim=1))
        return at_least_float32(logits)

    def _reduce(self, per_image: Tensor, image_numel: int) -> Tensor:
        return per_image / image_numel if self.config.reduction == "mean" else per_image


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
