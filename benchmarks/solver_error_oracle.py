"""Data whose best denoiser, and whose path of the probability-flow ODE, are known: for solver_error.py."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from calotype.diffusion import Estimate, Flow, Grid, NoiseSchedule, NoiseSource, Solver, solve

IMAGES, DIMENSIONS = 128, 8


@dataclass(frozen=True)
class Mixture:
    """Gaussians with diagonal covariance: weights [k], means and standard deviations [k, d]."""

    weight: Tensor
    mean: Tensor
    std: Tensor

    def estimate(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Estimate:
        variance = alpha**2 * self.std**2 + sigma**2  # k d
        residual = x.flatten(1)[:, None] - alpha * self.mean  # n k d
        log = self.weight.log() - (residual**2 / variance + variance.log()).sum(-1) / 2
        part = log.softmax(1)[..., None]
        x0 = (part * (self.mean + alpha * self.std**2 * residual / variance)).sum(1)
        eps = (part * sigma * residual / variance).sum(1)
        return Estimate(x0.view_as(x), eps.view_as(x), alpha, sigma)


def gaussian(mean: Tensor, std: Tensor) -> Mixture:
    """The Gaussian of these means and deviations [d]."""
    return Mixture(torch.ones(1, dtype=torch.float64), mean.double()[None], std.double()[None])


def data() -> dict[str, Mixture]:
    generator = torch.Generator().manual_seed(0)
    one = {"generator": generator, "dtype": torch.float64}
    weight = torch.rand(6, **one) + 0.5
    mixture = Mixture(weight / weight.sum(), torch.randn(6, DIMENSIONS, **one), 0.1 + 0.3 * torch.rand(6, 1, **one))
    return {
        "gaussian": gaussian(torch.linspace(-1, 1, DIMENSIONS), torch.linspace(0.1, 0.8, DIMENSIONS)),
        "mixture": mixture,
    }


class Exact:
    """The path of the probability-flow ODE from one start; dz/dr = eps - x_0 in z = x / (alpha + sigma)."""

    def __init__(self, target: Mixture, alpha: float, sigma: float) -> None:
        noise = NoiseSource(range(IMAGES)).initial((DIMENSIONS, 1, 1), torch.float64)
        which = torch.multinomial(target.weight, IMAGES, replacement=True, generator=torch.Generator().manual_seed(1))
        image = (target.mean + target.std * NoiseSource([7]).initial((DIMENSIONS,), torch.float64))[which]
        start = alpha * image.view_as(noise) + sigma * noise
        self.first = sigma / (alpha + sigma)

        def slope(r: float, z: np.ndarray) -> np.ndarray:
            level = torch.tensor([1 - r, r], dtype=torch.float64)
            now = target.estimate(torch.from_numpy(z).view_as(noise), *level)
            return (now.eps - now.x0).numpy().ravel()

        z = (start / (alpha + sigma)).numpy().ravel()
        path = solve_ivp(slope, (self.first, 0.0), z, "DOP853", rtol=1e-11, atol=1e-12, dense_output=True)
        self.z: Callable[[float], np.ndarray] = path.sol

    def at(self, alpha: float, sigma: float) -> Tensor:
        r = min(sigma / (alpha + sigma), self.first)
        return (alpha + sigma) * torch.from_numpy(self.z(r)).view(IMAGES, DIMENSIONS, 1, 1)


def error_of(x: Tensor, exact: Tensor) -> float:
    """The median over images of the root mean square over dimensions."""
    return (x.double() - exact).square().mean((1, 2, 3)).sqrt().median().item()


def steps_for(solver_evaluations: Callable[[int], int], limit: int) -> int:
    """The most steps of which the evaluations do not exceed the limit."""
    return max(n for n in range(1, limit + 1) if solver_evaluations(n) <= limit)


def walk(
    target: Mixture, schedule: NoiseSchedule, exact: Exact, solver: Solver, grid: Grid, shown: Tensor | None = None
) -> Tensor:
    """Where a walk from the exact path ends; the network is shown ``shown``, one time per step, or the node's own."""

    def denoise(x: Tensor, t: Tensor) -> Estimate:
        alpha, sigma = schedule.marginal(t, x)
        if shown is None:
            return target.estimate(x, alpha, sigma)
        now = target.estimate(x, *schedule.marginal(shown[(grid.t[:-1] - t).abs().argmin()].double(), x))
        if isinstance(schedule, Flow):
            flow = now.eps - now.x0
            return Estimate(x - sigma * flow, x + alpha * flow, alpha, sigma)
        return Estimate((x - sigma * now.eps) / alpha, now.eps, alpha, sigma)

    x = exact.at(grid.alpha[0].item(), grid.sigma[0].item())
    *_, state = solve(denoise, x, grid, solver, NoiseSource(range(IMAGES)))
    return state.x


def ours(
    target: Mixture, schedule: NoiseSchedule, exact: Exact, solver: Solver, grid: Grid, shown: Tensor | None = None
) -> float:
    """The error of a walk."""
    x = walk(target, schedule, exact, solver, grid, shown)
    return error_of(x, exact.at(grid.alpha[-1].item(), grid.sigma[-1].item()))
