"""The latents' side of a likelihood: log q(z | x) - log p(z), with p from a diffusion model."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.data.batch import Batch
from calotype.diffusion import Denoise, Grid, NoiseSchedule, NoiseSource
from calotype.diffusion.likelihood import Hutchinson, exact_divergence, log_likelihood, variational_bound
from calotype.models.distributions import DiagonalGaussianDistribution
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder

EXACT, EVALUATIONS, STEPS = 16, 32, 4_000
TOLERANCE = 1e-4
NOISE_OF_CODES = 0.05


class LatentLikelihood(ABC):
    """What latents of images cost: every draw follows from ``batch.indices``.

    ``methods`` are the priors by name; ``protocol`` says what they are.
    """

    methods: tuple[str, ...]
    protocol: str

    @abstractmethod
    def decoded(self, x: Float[Tensor, "b c h w"], batch: Batch) -> Float[Tensor, "b d h2 w2"]:
        """Draw latents z for images ``x`` and return what of them is decoded, in raw units."""

    @abstractmethod
    def nats(self, method: str, x: Float[Tensor, "b c h w"], batch: Batch) -> Float[Tensor, " b"]:
        """Return log q(z | x) - log p(z) of the same draw, or its expectation."""


class SampledLatents(LatentLikelihood):
    """Latents drawn from an encoder's Gaussian posterior."""

    def __init__(self, model: LatentDiffusion | TrainedAutoencoder) -> None:
        self.model = model if isinstance(model, LatentDiffusion) else None
        self.autoencoder = model.model if isinstance(model, TrainedAutoencoder) else model.autoencoder
        self.methods = ("standard_normal",) if self.model is None else ("vlb", "ode", "standard_normal")
        self.protocol = (
            "z is drawn from the encoder's Gaussian posterior, -log q(z | x) its NLL. standard_normal: p(z) = N(0, I) "
            "on raw latents, the expectation being the KL. " + (_DIFFUSION + _NORMALISED if self.model else "")
        )

    def decoded(self, x: Tensor, batch: Batch) -> Tensor:
        """Return a sample of the posterior."""
        posterior = self._posterior(x)
        return posterior.sample(NoiseSource(batch.indices.tolist()).initial(posterior.mean.shape[1:]))

    def nats(self, method: str, x: Tensor, batch: Batch) -> Tensor:
        """Return the KL for ``standard_normal``, else the difference for the sample."""
        posterior = self._posterior(x)
        if method == "standard_normal":
            return posterior.kl()
        assert self.model is not None
        z = self.decoded(x, batch)
        y, prior = self.autoencoder.normalise(z), _Prior(self.model, batch)
        log_p = prior.log_density(y) if method == "ode" else -prior.bound(y, self.model.schedule.t_min)
        positions = z[0, 0].numel()
        return -posterior.nll(z) - log_p - positions * self.autoencoder.latent_scale.log().sum()

    def _posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        posterior = self.autoencoder.encode(x)
        assert isinstance(posterior, DiagonalGaussianDistribution)
        return posterior


class NoisyLatents(LatentLikelihood):
    """Latents that are points (pixels, or what a quantiser gets) and become densities by the model's own noise.

    q(y_t | x) is the forward process at a little noise, and the network's estimate of the clean latents is decoded.
    """

    methods = ("vlb", "ode")

    def __init__(self, model: LatentDiffusion, width: Float[Tensor, "c 1 1"]) -> None:
        self.model, schedule = model, model.schedule
        in_pixels = len(width) == len(model.autoencoder.latent_scale) and model.autoencoder.factor == 1
        noise = float((width.flatten() / 2 * model.autoencoder.latent_scale.cpu()).mean()) if in_pixels else 0.0
        log_snr = torch.tensor(-2 * math.log(noise or NOISE_OF_CODES), dtype=torch.float64)
        self.start = max(schedule.t_min, float(schedule.time(log_snr)))
        self.protocol = (
            f"z is x_t = alpha x + sigma eps at t = {self.start:.4g} (in pixels noise of about half a level, or the "
            "least of the schedule): images are dequantised by the noise of the model itself, and the last step from "
            "there is the network's estimate of x, decoded. " + _DIFFUSION
        )

    def decoded(self, x: Tensor, batch: Batch) -> Tensor:
        """Return the network's estimate of the clean latents."""
        y_t, t = self._noisy(x, batch)[0], torch.tensor(self.start, dtype=torch.float64)
        return self.model.autoencoder.denormalise(_Prior(self.model, batch).denoise(y_t, t).x0)

    def nats(self, method: str, x: Tensor, batch: Batch) -> Tensor:
        """Return the difference for the noisy latents; with the VLB, its terms but the last."""
        prior = _Prior(self.model, batch)
        if method == "vlb":
            return prior.bound(self._clean(x), self.start, reconstruct=False)
        y_t, nll = self._noisy(x, batch)
        return -nll - prior.log_density(y_t, self.start)

    def _clean(self, x: Tensor) -> Tensor:
        return self.model.autoencoder.normalise(self.model.autoencoder.encode(x).mode())

    def _noisy(self, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return y_t at ``start`` and -log q(y_t | x)."""
        y = self._clean(x)
        noise = NoiseSource(batch.indices.tolist()).initial(y.shape[1:]).to(y)
        alpha, sigma = self.model.schedule.marginal(torch.tensor(self.start, dtype=torch.float64), y)
        elements = 0.5 * (noise.square() + math.log(2 * math.pi)) + float(sigma.log())
        return alpha * y + sigma * noise, elements.flatten(1).sum(1)


@dataclass(frozen=True)
class _Prior:
    """A diffusion model over normalised latents, conditioned by what is known of each image; without guidance."""

    model: LatentDiffusion
    batch: Batch

    @property
    def denoise(self) -> Denoise:
        fields = self.model.conditioner.known(self.batch.fields)
        return self.model.denoiser.bind(self.model.condition(len(self.batch.indices), **fields))

    def log_density(self, y: Tensor, start: float | None = None) -> Tensor:
        """log p(y) by the probability-flow ODE, or that of noisy latents."""
        divergence = exact_divergence if y[0].numel() <= EXACT else Hutchinson(self.batch.indices.tolist())
        return log_likelihood(
            self.denoise, y, self.model.schedule, divergence=divergence, start=start, rtol=TOLERANCE, atol=TOLERANCE
        )

    def bound(self, y: Tensor, end: float, *, reconstruct: bool = True) -> Tensor:
        """-log p(y) by the variational bound; without the step from ``end`` to y where something else is its part."""
        noise = NoiseSource(self.batch.indices.tolist())
        grid = _grid(self.model.schedule, end)
        found = variational_bound(self.denoise, y, grid, noise, evaluations=EVALUATIONS)
        return found.total if reconstruct else found.prior + found.steps


def _grid(schedule: NoiseSchedule, end: float) -> Grid:
    """Return equal steps in log SNR to the time ``end``, and the one to the clean node."""
    return schedule.grid_at(schedule.grid(STEPS, "log_snr", end=end).t)


_DIFFUSION = (
    "The diffusion model is conditioned by what is known of each image, without guidance. vlb: the variational bound "
    f"of ancestral sampling with posterior variances in {STEPS} equal steps of log SNR, each image estimating the sum "
    f"from {EVALUATIONS} of them. ode: the density of the probability-flow ODE, Dormand-Prince "
    f"steps within {TOLERANCE:g}, divergence exact for up to {EXACT} numbers, else by one Hutchinson probe an image."
)
_NORMALISED = " It knows normalised latents: log p(z) = log p(normalised z) + sum of log scale."
