"""Heun's method."""

from dataclasses import dataclass
from typing import Literal

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State


@dataclass(frozen=True, kw_only=True)
class Heun(Solver):
    """Heun's method on the probability-flow ODE (Algorithm 1 without churn, arXiv:2206.00364), for any alpha and sigma.

    Scaled by 1 / (alpha + sigma) every schedule is a flow: z = x / (alpha + sigma) and r = sigma / (alpha + sigma) obey
    dz/dr = u = eps - x_0, finite from pure noise (r = 1) to the clean image (r = 0), where EDM's x / alpha is not.

        z~ = z + (r' - r) u(z, r)
        z' = z + (r' - r) (u(z, r) + u(z~, r')) / 2

    The step to a clean node is Euler's, z~.
    """

    kind: Literal["heun"] = "heun"

    def evaluations(self, steps: int) -> int:
        """Return 2 steps - 1: two in every step but the one to the clean node."""
        return 2 * steps - 1

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:  # noqa: ARG002
        """Go from node ``i`` to node ``i + 1``; no noise is added."""
        total = grid.alpha + grid.sigma
        r = grid.sigma / total
        now = denoise(state.x, grid.t[i])
        u = now.eps - now.x0
        z = state.x / total[i]
        step = r[i + 1] - r[i]
        x = total[i + 1] * (z + step * u)
        if grid.sigma[i + 1] > 0:
            then = denoise(x, grid.t[i + 1])
            x = total[i + 1] * (z + step * (u + then.eps - then.x0) / 2)
        return State(x=x, x0=now.x0, t=grid.t[i + 1])
