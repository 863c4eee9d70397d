"""Moments of the samples of stochastic solvers, ours and diffusers'."""

import torch
from solver_error_oracle import Mixture, steps_for
from solver_error_peers import MULTISTEP, TABLE, Peer, peer
from torch import Tensor

from calotype.diffusion import DDIM, DDPM, DPMSolver, EDMStochastic, Estimate, NoiseSource, Solver, solve

SAMPLES = 20_000
STOCHASTIC: dict[str, tuple[Solver, Peer | None]] = {
    "DDPM": (DDPM(), peer("DDPMScheduler", variance_type="fixed_small", clip_sample=False)),
    "DDIM, eta 1": (DDIM(eta=1.0), None),
    "2M SDE": (
        DPMSolver(algorithm="sde_dpm_solver++"),
        peer(MULTISTEP, algorithm_type="sde-dpmsolver++"),
    ),
    "3M SDE": (DPMSolver(order=3, algorithm="sde_dpm_solver++"), None),
    "EDM, churn 40": (EDMStochastic(), None),
}


def measure_moments(target: Mixture, evaluations: tuple[int, ...]) -> dict[str, dict[int, float]]:
    """The Wasserstein-2 distance between N(mean, std^2), the data, and the normal of the samples' moments, in 1-D."""
    mean, std = target.mean[0, :1], target.std[0, :1]
    one = Mixture(target.weight, mean[None], std[None])
    x = NoiseSource([3]).initial((SAMPLES, 1, 1), torch.float64).view(-1, 1, 1, 1)
    found: dict[str, dict[int, float]] = {}

    def distance(samples: Tensor) -> float:
        return ((samples.mean() - mean) ** 2 + (samples.std() - std) ** 2).sqrt().item()

    class OneSeed(NoiseSource):
        def draw(self, shape, dtype=torch.float32, device="cpu"):  # type: ignore[no-untyped-def]
            return super().draw((SAMPLES, *shape), dtype, device)[0]

    def denoise(x: Tensor, t: Tensor) -> Estimate:
        return one.estimate(x, *TABLE.marginal(t, x))

    for name, (solver, theirs) in STOCHASTIC.items():
        for limit in evaluations:
            grid = TABLE.grid(steps_for(solver.evaluations, limit))
            if theirs is not None:
                torch.manual_seed(0)
                scheduler = theirs.prepared(limit)
                grid = theirs.nodes(scheduler)
                found.setdefault(f"{name} | diffusers", {})[limit] = distance(theirs.run(one, None, scheduler, x))
            *_, state = solve(denoise, x, grid, solver, OneSeed([5]))
            found.setdefault(f"{name} | ours", {})[limit] = distance(state.x)
    return found
