"""DPM-Solver with steps of its own choice."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.schedule import NoiseSchedule
from calotype.diffusion.solve import solve
from calotype.diffusion.solvers import DPMSolver, State
from calotype.diffusion.solvers.exponential import Algorithm, ExponentialSteps, Variant

FIRST, SAFETY = 0.05, 0.9


def solve_adaptively(
    denoise: Denoise,
    x: Float[Tensor, "b c h w"],
    schedule: NoiseSchedule,
    *,
    order: int = 2,
    algorithm: Algorithm = "dpm_solver++",
    variant: Variant = "dpm_solver",
    rtol: float = 0.05,
    atol: float = 0.0078,
    start: float | None = None,
    end: float | None = None,
) -> Iterator[State]:
    """Walk from time ``start`` (``t_max``) to ``end`` (``t_min``) in steps as long as the error allows; yield each.

    DPM-Solver-12 and -23 (arXiv:2206.00927): a step of h in lambda = log(alpha / sigma) is made with order p
    and, from the same evaluations, with order p - 1. It is taken where

        E = max over the batch of rms((x - x_lower) / max(atol, rtol |x_lower|, rtol |x_lower of the step before|))

    is at most 1. Then, or else for another try, h becomes 0.9 h E^(-1/p). Each try costs p evaluations. The images of a
    batch share their steps: unlike with ``solve``, each depends on the others, within the tolerance.

    Raises:
        ValueError: ``order`` is not 2 or 3, or ``start`` is pure noise, from where lambda is infinite.
        FloatingPointError: an estimate is not finite.
    """
    if order not in (2, 3):
        raise ValueError(f"order must be 2 or 3, not {order}")
    ends = [schedule.t_max if start is None else start, schedule.t_min if end is None else end]
    at, last = (schedule.log_snr(torch.tensor(ends, dtype=torch.float64)) / 2).tolist()
    if at == -float("inf"):
        raise ValueError(f"start: {ends[0]} is pure noise, from where no step has a length; take less")
    solver = DPMSolver(order=order, algorithm=algorithm, method="singlestep_fixed", variant=variant)
    h, before = FIRST, x
    while last - at > 1e-6:
        h = min(h, last - at)
        nodes = at + h * torch.linspace(0, 1, order + 1, dtype=torch.float64)
        grid = schedule.grid_at(schedule.time(2 * nodes), clean=False)
        *_, trial, state = solve(denoise, x, grid, solver)
        lower = _lower_order(grid, solver, trial)
        allowed = (rtol * torch.maximum(lower.abs(), before.abs())).clamp(min=atol)
        error = ((state.x - lower) / allowed).square().mean(dim=(1, 2, 3)).sqrt().max().item()
        if error != error or error == float("inf"):
            raise FloatingPointError(f"an estimate between t = {grid.t[0]:.4g} and {grid.t[-1]:.4g} is not finite")
        if error <= 1:
            x, before, at = state.x, lower, at + h
            yield state
        h = SAFETY * h * max(error, 1e-12) ** (-1 / order)


def _lower_order(grid: Grid, solver: DPMSolver, trial: State) -> Tensor:
    """The step from what was known at its last inner node."""
    steps = ExponentialSteps(grid, solver.algorithm, solver.variant)
    x, first, *more = trial.history
    if not more:
        return steps.to(0, 2, x, first)
    return steps.second(0, 3, x, first, steps.distance(0, 3) / steps.distance(0, 1) * (more[0] - first))
