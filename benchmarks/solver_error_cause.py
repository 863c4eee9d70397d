"""Why diffusers' solvers leave ours where they do: x is not at the time that the network is shown.

DDIM and PNDM step from a shown time t to t - 1000 // N. The next time that they show is a rounded one, below that
unless N divides 1000: x is then shown for less noisy than it is. So it is where exponential spacing cuts its times to
whole numbers. Three proofs: our solvers, made to do the same, end where theirs do (``as_they_step``);
for a Gaussian the error of DDIM is a product of two factors (``factors``), which have opposite signs where the data are
narrower than the noise; and where they are wider the signs are the same, and theirs errs more.
"""

import itertools
from dataclasses import replace

import torch
from solver_error_oracle import DIMENSIONS, Exact, Mixture, data, error_of, gaussian, ours, walk
from solver_error_pairs import PAIRS
from solver_error_peers import MULTISTEP, TABLE, Peer, peer
from torch import Tensor

from calotype.diffusion import DDIM, PLMS, DPMSolver, Estimate, Grid, Solver
from calotype.diffusion.solvers import State

DEVIATIONS = (0.3, 2.0)
PLAIN: dict[str, tuple[Solver, Peer]] = {
    "DDIM": PAIRS["first order"]["DDIM"],
    "PNDM": PAIRS["PLMS"]["PLMS"],
    "2M, exponential": (DPMSolver(), peer(MULTISTEP, use_exponential_sigmas=True)),
}


def grid(t: Tensor, then: Tensor) -> Grid:
    """The step from ``t`` to ``then``, which is the clean image below 0."""
    return TABLE.grid_at(torch.stack([t, then]), clean=False) if then >= 0 else TABLE.grid_at(t[None])


def as_they_step(target: Mixture, x: Tensor, scheduler: object, solver: Solver) -> Tensor:
    """Walk with our solver from every time that the scheduler shows to where it goes from there."""

    def denoise(x: Tensor, t: Tensor) -> Estimate:
        return target.estimate(x, *TABLE.marginal(t, x))

    times = torch.unique(scheduler.timesteps.double()).flip(0)
    stride, state = 1000 // scheduler.num_inference_steps, State(x=x, x0=x, t=times[0])
    if isinstance(solver, PLMS):  # the trial is shown the second time, and the step from there back is as long as any
        one = denoise(x, times[0])
        trial = DDIM().step(denoise, state, grid(times[0], times[0] - stride), 0, None)
        mean, step = (one.eps + denoise(trial.x, times[1]).eps) / 2, grid(times[1] + stride, times[1])
        known = replace(one, alpha=step.alpha[0], sigma=step.sigma[0]).with_eps(mean, x)
        state = State(step.alpha[1] * known.x0 + step.sigma[1] * mean, known.x0, times[1], history=(one.eps,))
        times = times[1:]
    for t in times:
        state = solver.step(denoise, state, grid(t, t - stride), 0, None)
    return state.x


def factors(std: float, scheduler: object) -> tuple[float, float]:
    """By how much the steps of DDIM, and the times that are shown, multiply x of N(0, std^2), where 1 is exact.

    A step from (a, b) to (a', b') multiplies x by (a a' std^2 + b b') / v^2, v^2 = a^2 std^2 + b^2, the exact way by
    v' / v: too little by the cosine of an angle. Who takes x at level v' for x at level v'' multiplies by v' / v''.
    """
    times = torch.unique(scheduler.timesteps.double()).flip(0)
    stride = 1000 // scheduler.num_inference_steps
    ways = [grid(t, t - stride) for t in times]
    level = torch.stack([torch.stack([way.alpha * std, way.sigma], 1) for way in ways])  # n 2 2
    size = level.norm(dim=-1)
    return ((level[:, 0] * level[:, 1]).sum(-1) / size.prod(1)).prod().item(), (
        size[:-1, 1] / size[1:, 0]
    ).prod().item()


def compare(name: str, target: Mixture, evaluations: int) -> dict[str, float]:
    solver, theirs = PLAIN[name]
    first = TABLE.grid(1)
    exact, scheduler = Exact(target, first.alpha[0].item(), first.sigma[0].item()), theirs.prepared(evaluations)
    nodes = theirs.nodes(scheduler)
    start, end = (exact.at(nodes.alpha[i].item(), nodes.sigma[i].item()) for i in (0, -1))
    x, shown = theirs.run(target, exact, scheduler), theirs.shown(scheduler, nodes)
    if isinstance(solver, DPMSolver):
        mine, shown = walk(target, TABLE, exact, solver, nodes, shown), None
    else:
        mine = as_they_step(target, start, scheduler, solver)
    found = {
        "diffusers": error_of(x, end),
        "ours, doing the same": error_of(mine, end),
        "their largest difference": (x - mine).abs().max().item(),
        "ours": ours(target, TABLE, exact, solver, nodes, shown),
    }
    if name == "DDIM" and not target.mean.any():
        steps, shown = factors(float(target.std[0, 0]), theirs.prepared(evaluations))
        found |= {"factor of the steps": steps, "factor of the times shown": shown, "their product": steps * shown}
        found |= {"diffusers' x over the exact one": (x / end).median().item()}
    return found


def measure_cause(evaluations: tuple[int, ...]) -> dict[str, dict[str, dict[int, float]]]:
    """What -> series -> evaluations -> number."""
    targets = {"mixture": data()["mixture"]}
    for std in DEVIATIONS:
        narrow = gaussian(torch.zeros(DIMENSIONS), torch.full((DIMENSIONS,), std))
        targets[f"Gaussian of deviation {std:g}"] = narrow
    found: dict[str, dict[str, dict[int, float]]] = {}
    for name, (of, target) in itertools.product(PLAIN, targets.items()):
        told = {limit: compare(name, target, limit) for limit in evaluations}
        found[f"{name}, {of}"] = {key: {n: told[n][key] for n in evaluations} for key in told[evaluations[0]]}
    return found
