"""DPM-Solver++."""

from dataclasses import dataclass
from typing import Literal

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State


@dataclass(frozen=True, kw_only=True)
class DPMSolver(Solver):
    """DPM-Solver++, multistep, of order 1 or 2 (Algorithm 2, "2M", arXiv:2211.01095), for any alpha and sigma.

    With lambda = log(alpha / sigma), h and h_- the steps in lambda from here and to here, x_0- the previous estimate:

        x' = sigma' / sigma x - alpha' (e^-h - 1) D
        D  = x_0 + h / (2 h_-) (x_0 - x_0-)        order 2;  D = x_0 for order 1

    Order 1 is used where order 2 has no meaning: in the first step, in the step to a clean node (h infinite; x' = D
    there) and, as in the authors' code, in the last of fewer than 15 steps, where it is steadier.
    """

    order: int = 2
    kind: Literal["dpm_solver"] = "dpm_solver"

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, not {self.order}")

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:  # noqa: ARG002
        """Go from node ``i`` to node ``i + 1``; no noise is added."""
        x0 = denoise(state.x, grid.t[i]).x0
        h = grid.log_snr.diff() / 2
        last_of_few = i == grid.steps - 1 and grid.steps < 15
        data = x0
        if self.order == 2 and state.history and h[i].isfinite() and not last_of_few:
            data = x0 + h[i] / (2 * h[i - 1]) * (x0 - state.history[0])
        x = grid.sigma[i + 1] / grid.sigma[i] * state.x - grid.alpha[i + 1] * (-h[i]).expm1() * data
        return State(x=x, x0=x0, t=grid.t[i + 1], history=(x0,))
