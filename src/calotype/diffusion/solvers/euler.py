"""Euler's method."""

from dataclasses import dataclass
from typing import Literal

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State


@dataclass(frozen=True, kw_only=True)
class Euler(Solver):
    """Euler's method on the probability-flow ODE, for any alpha and sigma, in the coordinates of ``Heun``.

        z' = z + (r' - r) (eps - x_0),    z = x / (alpha + sigma),    r = sigma / (alpha + sigma)

    With x = alpha x_0 + sigma eps this is x' = alpha' x_0 + sigma' eps: ``DDIM()``. Where an estimate was changed and
    does not add up to x any more, the two differ.
    """

    kind: Literal["euler"] = "euler"

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:  # noqa: ARG002
        """Go from node ``i`` to node ``i + 1``; no noise is added."""
        total = grid.alpha + grid.sigma
        r = grid.sigma / total
        now = denoise(state.x, grid.t[i])
        z = state.x / total[i] + (r[i + 1] - r[i]) * (now.eps - now.x0)
        return State(x=total[i + 1] * z, x0=now.x0, t=grid.t[i + 1])
