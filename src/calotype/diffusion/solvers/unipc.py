"""UniPC: a predictor and a corrector that costs no evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State
from calotype.diffusion.solvers.exponential import Algorithm, ExponentialSteps


@dataclass(frozen=True, kw_only=True)
class UniPC(Solver):
    """UniPC of order 1 to 3 (arXiv:2302.04867), for any alpha and sigma: multistep, with the steps of DPM-Solver.

    The predictor integrates the polynomial in lambda through m at this node and up to ``order`` - 1 before, the
    corrector that through the value at the end of the step as well, which raises the order by one:

        x' = kept x - other sum_j w_j m_j    (kept, other and m of ``algorithm``, as in ``ExponentialSteps``)

    The evaluation that corrects node i is the one from which node i + 1 is predicted, so each step evaluates once, and
    the last node is not corrected. Where two values are all there are, the weight of their difference is B(h) / 2, with
    g = -h for x_0, h for eps, and B = g ("bh1") or e^g - 1 ("bh2"); with more, B cancels. The predictor of order 2 with
    "bh2" is DPM-Solver++(2M). ``lower_order_final`` takes no more values than steps are left, as the authors do: a long
    last step is steadier so. The step from pure noise and that to a clean node, where lambda is infinite, are of order
    1 and not corrected.
    """

    order: int = 2
    algorithm: Algorithm = "dpm_solver++"
    variant: Literal["bh1", "bh2"] = "bh2"
    lower_order_final: bool = True
    kind: Literal["unipc"] = "unipc"

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, not {self.order}")

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:  # noqa: ARG002
        """Correct node ``i`` and go on to node ``i + 1``; no noise is added."""
        now, steps = denoise(state.x, grid.t[i]), ExponentialSteps(grid, self.algorithm, self.variant)
        if steps.distance(i, i + 1).isinf():
            return State(x=grid.alpha[i + 1] * now.x0 + grid.sigma[i + 1] * now.eps, x0=now.x0, t=grid.t[i + 1])
        x, m = state.x, steps.expanded(now)
        before = {i - 1 - k: value for k, value in enumerate(state.history)}
        if before:
            nothing = torch.zeros_like(x)
            x = x + self._to(steps, i, nothing, {**before, i: m}) - self._to(steps, i, nothing, before)
        order = min(self.order, grid.steps - i) if self.lower_order_final else self.order
        known = dict([(i, m), *before.items()][:order])
        new = self._to(steps, i + 1, x, known)
        return State(x=new, x0=now.x0, t=grid.t[i + 1], history=tuple(known.values()))

    def _to(self, steps: ExponentialSteps, j: int, x: Tensor, known: Mapping[int, Tensor]) -> Tensor:
        """Go from the node before ``j``, whose m is the first in ``known``, to ``j``."""
        if len(known) != 2:
            return steps.through(j - 1, j, x, known)
        (i, m), (other, value) = known.items()
        slope = steps.distance(i, j) / steps.distance(i, other) * (value - m)
        return steps.second(i, j, x, m, slope)
