"""DPM-Solver and DPM-Solver++."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State
from calotype.diffusion.solvers.exponential import Algorithm, ExponentialSteps, Variant

FEW = 15
History = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class DPMSolver(Solver):
    """DPM-Solver++ (arXiv:2211.01095) and DPM-Solver (arXiv:2206.00927) of order 1 to 3, for any alpha and sigma.

    The arithmetic is that of ``ExponentialSteps``. ``method`` says where the derivatives come from:

    - ``multistep``: from estimates at the nodes before. ``DPMSolver()`` is "2M" (Algorithm 2, arXiv:2211.01095):
      with x_0- and h_- those of the step before, x' = sigma' / sigma x - alpha' (e^-h - 1) D,
      D = x_0 + h / (2 h_-) (x_0 - x_0-).
    - ``singlestep``: from estimates at the nodes between. A step of order p spans p intervals of the grid, and what is
      yielded at the inner nodes is the trial value there. All orders up to ``order`` are used to come out even:
      3 .. 3, 2, 1 ("DPM-Solver-fast", arXiv:2206.00927).
    - ``singlestep_fixed``: likewise, with steps of ``order`` as far as they go.

    ``algorithm`` "sde_dpm_solver++" solves the SDE instead, in multisteps: "2M SDE" and "3M SDE". Its order 1 is
    ``DDIM(eta=1)``.

    ``variant`` "taylor" keeps phi_2 in steps of order 2 and the second derivative in single steps of order 3; for
    "dpm_solver" these are phi_1 / 2 and none, which is of the same order. A multistep step of order 3 has the second
    derivative too: as it is, or, as the authors' code has it, ``curvature`` "half" of it, which leaves it of order 2.
    ``lower_order_final`` ends a multistep walk of fewer than 15 steps with lower orders, which is steadier. The step
    from pure noise and that to a clean node, where lambda is infinite, are of order 1.
    """

    order: int = 2
    algorithm: Algorithm | Literal["sde_dpm_solver++"] = "dpm_solver++"
    method: Literal["multistep", "singlestep", "singlestep_fixed"] = "multistep"
    variant: Variant = "dpm_solver"
    curvature: Literal["whole", "half"] = "whole"
    lower_order_final: bool = True
    kind: Literal["dpm_solver"] = "dpm_solver"

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, not {self.order}")
        if self.algorithm == "sde_dpm_solver++" and self.method != "multistep":
            raise ValueError(f"method must be 'multistep' for algorithm 'sde_dpm_solver++', not {self.method!r}")

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        return self.algorithm == "sde_dpm_solver++"

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:
        """Go from node ``i`` to node ``i + 1``.

        Raises:
            ValueError: ``algorithm`` is that of the SDE and there is no source of noise.
        """
        now, steps = denoise(state.x, grid.t[i]), ExponentialSteps(grid, self.algorithm, self.variant)
        deviation = steps.deviation(i, i + 1)
        history: History = ()
        if steps.distance(i, i + 1).isinf():
            kept = grid.sigma[i + 1] if deviation == 0 else 0
            x = grid.alpha[i + 1] * now.x0 + kept * now.eps
        else:
            advance = self._multistep if self.method == "multistep" else self._singlestep
            x, history = advance(steps, state, i, steps.expanded(now))
        if deviation > 0:
            if noise is None:
                raise ValueError("an SDE has noise: give solve(..., noise=NoiseSource(seeds))")
            x = x + deviation * noise.draw(x.shape[1:], x.dtype, x.device)
        return State(x=x, x0=now.x0, t=grid.t[i + 1], history=history)

    def orders(self, grid: Grid) -> list[int]:
        """Return the orders of the single steps through ``grid``; each is also the number of intervals it spans."""
        whole, rest = divmod(grid.steps, self.order)
        orders = [self.order] * whole + [rest] * (rest > 0)
        if self.method == "singlestep" and self.order == 3 and rest == 0:
            orders[-1:] = [2, 1]
        if grid.sigma[-1] == 0 and orders[-1] > 1:
            orders[-1:] = [orders[-1] - 1, 1]
        if grid.alpha[0] == 0 and orders[0] > 1:
            orders[:1] = [1, orders[0] - 1]
        return orders

    def _multistep(self, steps: ExponentialSteps, state: State, i: int, m: Tensor) -> tuple[Tensor, History]:
        known, count = (m, *state.history)[: self.order], steps.grid.steps
        order = min(len(known), count - i) if self.lower_order_final and count < FEW else len(known)
        if order == 1:
            return steps.to(i, i + 1, state.x, m), known
        h, before = steps.distance(i, i + 1), steps.distance(i - 1, i)
        slope = h / before * (m - known[1])
        if order == 2:
            return steps.second(i, i + 1, state.x, m, slope), known
        earlier = steps.distance(i - 2, i - 1)
        change = slope - h / earlier * (known[1] - known[2])
        half = h / (before + earlier) * change
        curvature = 2 * half if self.curvature == "whole" else half
        return steps.to(i, i + 1, state.x, m, slope + before / (before + earlier) * change, curvature), known

    def _singlestep(self, steps: ExponentialSteps, state: State, i: int, m: Tensor) -> tuple[Tensor, History]:
        end = next(end for end in accumulate(self.orders(steps.grid)) if end > i)
        x, *known = (*state.history, m) if state.history else (state.x, m)
        start, trial = i + 1 - len(known), i + 1 < end
        h, first = steps.distance(start, i + 1), known[0]
        slopes = [h / steps.distance(start, start + k) * (known[k] - first) for k in range(1, len(known))]
        if len(known) == 3 and self.variant == "taylor":
            r1, r2 = (steps.distance(start, start + k) / h for k in (1, 2))
            a, b = slopes
            new = steps.to(start, i + 1, x, first, (r2 * a - r1 * b) / (r2 - r1), 2 * (b - a) / (r2 - r1))
        elif len(known) == 2 and not trial:
            new = steps.second(start, i + 1, x, first, *slopes)
        else:
            new = steps.to(start, i + 1, x, first, *slopes[-1:])
        return new, ((x, *known) if trial else ())
