"""The variational bound on the log-likelihood of a diffusion model that is sampled step by step."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.ddpm import DDPM
from calotype.utils.seeds import generator

Decoder = Callable[[Tensor, Tensor], Tensor]
"""(x, estimate of x) -> -log p(x | estimate) in nats per image."""


@dataclass(frozen=True, eq=False)
class VariationalBound:
    """The parts of -log p(x) <= total, in nats per image."""

    prior: Float[Tensor, " b"]
    steps: Float[Tensor, " b"]
    reconstruction: Float[Tensor, " b"]

    @property
    def total(self) -> Float[Tensor, " b"]:
        """Their sum."""
        return self.prior + self.steps + self.reconstruction


@torch.no_grad()
def variational_bound(
    denoise: Denoise,
    x: Float[Tensor, "b ..."],
    grid: Grid,
    noise: NoiseSource,
    *,
    solver: DDPM = DDPM(),  # noqa: B008 (frozen)
    decoder: Decoder | None = None,
    evaluations: int | None = None,
) -> VariationalBound:
    """Return a bound on -log p(x) for images sampled by ``solver`` along ``grid`` (Eq. 5, arXiv:2006.11239):

        prior           KL(q(x_T | x) || N(0, I))
        steps           sum of KL(q(x' | x_t, x) || p(x' | x_t)) over all steps but the last
        reconstruction  -log p(x | x_t) for the step to the clean node

    Both sides of a step are normal, with the factors of ``DDPM.posterior``: p has the mean that the estimate gives and
    the solver's variance, and any alpha and sigma will do. ``decoder`` is p(x | x_t) given the estimate of x: over
    pixel levels, for example (``DiscretisedNormal``); without one it is the normal density around the estimate with
    the variance sigma_t^2 / alpha_t^2 of its last noisy node.

    The expectation over x_t takes one draw a step from ``noise``. With ``evaluations`` k, every image estimates the sum
    over steps from k of them, one in each k-th part at a place of its own: unbiased, and as cheap for any grid.

    Raises:
        ValueError: the grid does not end at a clean node or has a single step, or ``evaluations`` is less than 1.
    """
    if grid.sigma[-1] != 0 or grid.steps < 2:
        raise ValueError("the bound needs a grid of at least two steps that ends at a clean node")
    if evaluations is not None and evaluations < 1:
        raise ValueError(f"evaluations must be at least 1, not {evaluations}")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    weight, variance_ratio = _step_factors(grid, solver)
    inner = grid.steps - 1

    def see(i: Tensor) -> Tensor:
        """Return the error of the estimate at node ``i``: one for all images, or one for each."""
        alpha, sigma = (_like(level[i], x) for level in (grid.alpha, grid.sigma))
        x_t = alpha * x + sigma * noise.draw(x.shape[1:], x.dtype, x.device)
        return denoise(x_t, grid.t[i]).x0.to(x)

    def divergence(i: Tensor) -> Tensor:
        squares = (see(i) - x).square().flatten(1).sum(1)
        return weight[i].to(x) * squares + variance_ratio[i].to(x) * x[0].numel()

    nodes = list(_nodes(inner, evaluations, noise.seeds))
    steps = torch.stack([divergence(i) for i in nodes]).sum(0) * (inner / len(nodes))
    last = torch.tensor(inner)
    spread = float(grid.sigma[inner] / grid.alpha[inner])
    reconstruction = (decoder or _normal(spread))(x, see(last))
    alpha, variance = float(grid.alpha[0]), float(grid.sigma[0] ** 2)
    prior = 0.5 * ((alpha * x).square() + variance - 1 - math.log(variance)).flatten(1).sum(1)
    return VariationalBound(prior, steps, reconstruction)


def _step_factors(grid: Grid, solver: DDPM) -> tuple[Float64[Tensor, " steps"], Float64[Tensor, " steps"]]:
    """Return, for every step but the last, the factor of the squared error of x_0 and the rest of the KL per element.

    KL = 1/2 [(of_x0 error)^2 / s^2 + q / s^2 - 1 - log(q / s^2)] with q the variance of the posterior.
    """
    i = torch.arange(grid.steps - 1)
    _, _, q = DDPM().posterior(grid, i)
    of_x0, _, s2 = solver.posterior(grid, i)
    log_ratio = q.log() - s2.log()
    return of_x0.square() / (2 * s2), 0.5 * (log_ratio.expm1() - log_ratio)


def _nodes(inner: int, evaluations: int | None, seeds: tuple[int, ...]) -> Iterator[Int[Tensor, "*b"]]:
    """Iterate over nodes to evaluate at: all of them, or one for each image out of every k-th part."""
    if evaluations is None:
        yield from torch.arange(inner)
        return
    streams = [generator("variational bound", seed) for seed in seeds]
    for k in range(evaluations):
        places = [k + torch.rand((), generator=stream, dtype=torch.float64, device="cpu") for stream in streams]
        yield (torch.stack(places) * (inner / evaluations)).long().clamp(max=inner - 1)


def _normal(spread: float) -> Decoder:
    def nll(x: Tensor, mean: Tensor) -> Tensor:
        return (0.5 * ((x - mean) / spread).square() + math.log(spread * math.sqrt(2 * math.pi))).flatten(1).sum(1)

    return nll


def _like(level: Tensor, x: Tensor) -> Tensor:
    """Shape one number for each image to multiply ``x``; one for all is left as it is."""
    return level if level.ndim == 0 else level.to(x).view(-1, *[1] * (x.ndim - 1))
