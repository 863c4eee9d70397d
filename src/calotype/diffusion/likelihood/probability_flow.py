"""The density of a diffusion model's probability-flow ODE."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.likelihood.divergence import Divergence, exact_divergence
from calotype.diffusion.likelihood.runge_kutta import runge_kutta
from calotype.diffusion.schedule import NoiseSchedule


def log_likelihood(
    denoise: Denoise,
    x: Float[Tensor, "b ..."],
    schedule: NoiseSchedule,
    *,
    divergence: Divergence = exact_divergence,
    start: float | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Float[Tensor, " b"]:
    """Return log p(x) in nats, p being what the probability-flow ODE makes of standard normal noise at ``t_max``.

    With z = x / (alpha + sigma) and r = sigma / (alpha + sigma), as in ``Heun``, the ODE is dz/dr = u = eps - x_0 for
    every schedule, finite from the clean image to pure noise, and (Eq. 39, arXiv:2011.13456)

        log p(x) = log N(x_T; 0, I) + n log(alpha_T + sigma_T) - n log(alpha + sigma) + integral of div u dr

    along the path from x to x_T, which Dormand-Prince steps follow within ``rtol`` and ``atol``. A clean image has
    u = -z whatever the data, and below the noise of ``t_min``, where a network knows nothing, u is the straight line
    between that and u at ``t_min``. ``start`` is the time of ``x`` if it is a noisy image: the density is that of x_t.

    ``divergence`` is exact, at the price of one backward pass per element and evaluation; ``Hutchinson(seeds)`` needs
    one. ``denoise`` must be differentiable in x_t, and no image of a batch may depend on another.

        log_likelihood(denoiser.bind(conditioning), latents, schedule, divergence=Hutchinson(range(len(latents))))

    Raises:
        ValueError: ``start`` is not between ``t_min`` and ``t_max``.
        FloatingPointError: an estimate is not finite.
    """
    if start is not None and not schedule.t_min <= start < schedule.t_max:
        raise ValueError(f"start must be at least {schedule.t_min} and below {schedule.t_max}, not {start}")
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    ends = torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64)
    (least, most), (_, total) = _level(schedule, ends)
    path, total_start = [0.0, least, most], 1.0
    if start is not None:
        (at,), (total_start,) = _level(schedule, torch.tensor([start], dtype=torch.float64))
        path = [at, most]

    def slope(y: Tensor, r: float) -> Tensor:
        z = y[:, :-1].unflatten(1, x.shape[1:])
        u, trace = divergence(lambda z: _velocity(denoise, schedule, z, r, least), z)
        return torch.cat([u.flatten(1), trace[:, None]], dim=1)

    y = torch.cat([x.flatten(1) / total_start, x.new_zeros(len(x), 1)], dim=1)
    for here, there in pairwise(path):
        y = runge_kutta(slope, y, here, there, rtol=rtol, atol=atol)
    noise, gained = y[:, :-1] * total, y[:, -1]
    n = noise.shape[1]
    return -0.5 * (noise.square() + math.log(2 * math.pi)).sum(1) + n * math.log(total / total_start) + gained


def bits_per_dim(nats: Float[Tensor, " b"], dims: int) -> Float[Tensor, " b"]:
    """Return log-likelihoods in nats of ``dims`` numbers each as bits per number: ``-nats / (dims log 2)``."""
    return -nats / (dims * math.log(2))


def _velocity(denoise: Denoise, schedule: NoiseSchedule, z: Tensor, r: float, least: float) -> Tensor:
    """Return eps - x_0; between the clean image and the noise ``least`` of t_min the line from -z to that of t_min."""
    if r == 0:
        return -z
    shown = torch.tensor(max(r, least), dtype=torch.float64)
    t = schedule.time(2 * ((1 - shown) / shown).log()).clamp(schedule.t_min, schedule.t_max)
    estimate = denoise(z * float(schedule.alpha(t) + schedule.sigma(t)), t)
    u = (estimate.eps - estimate.x0).to(z)
    return u if r >= least else torch.lerp(-z, u, r / least)


def _level(schedule: NoiseSchedule, t: Tensor) -> tuple[list[float], list[float]]:
    """Return r and alpha + sigma at times ``t``."""
    total = schedule.alpha(t) + schedule.sigma(t)
    return (schedule.sigma(t) / total).tolist(), total.tolist()
