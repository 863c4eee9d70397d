"""PLMS: pseudo linear multistep."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State
from calotype.diffusion.solvers.heun import Heun

ADAMS_BASHFORTH = ((3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@dataclass(frozen=True, kw_only=True)
class PLMS(Solver):
    """Pseudo linear multistep sampling (PNDM, arXiv:2202.09778): Adams-Bashforth of order 4 on eps.

    A step is DDIM's with a combination of eps of this node and up to three before, x_0 being what follows from it:

        x' = alpha' x_0 + sigma' e,    x_0 = (x - sigma e) / alpha,    e = (55 eps - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24

    Orders 2 and 3 come before there are so many. The first step is an improved Euler: e is the mean of eps here and at
    the end of a trial step, unless that is clean. (The network is never shown the last node: where the first step is
    the only one, the trial is shown as if at its start.) From pure noise, where eps does not say what x_0 is, it is
    Heun's.

    The weights are those of equal steps in sigma / alpha. On other grids, the usual ones included, the order is 2.
    """

    kind: Literal["plms"] = "plms"

    def evaluations(self, steps: int) -> int:
        """Return steps + 1: two in the first step; one if that is the only one."""
        return steps + 1 if steps > 1 else 1

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:
        """Go from node ``i`` to node ``i + 1``; no noise is added."""
        if i == 0 and grid.alpha[0] == 0:
            return replace(Heun().step(denoise, state, grid, i, noise), history=(state.x / grid.sigma[0],))
        now = denoise(state.x, grid.t[i])
        known = (now.eps, *state.history)
        eps = now.eps
        if len(known) > 1:
            weights = ADAMS_BASHFORTH[len(known) - 2]
            eps = sum((weight * e for weight, e in zip(weights, known, strict=True)), torch.zeros_like(eps))
        elif grid.sigma[i + 1] > 0:
            trial = grid.alpha[i + 1] * now.x0 + grid.sigma[i + 1] * now.eps
            eps = (now.eps + denoise(trial, grid.t[min(1, grid.steps - 1)]).eps) / 2
        best = now.with_eps(eps, state.x)
        x = grid.alpha[i + 1] * best.x0 + grid.sigma[i + 1] * best.eps
        return State(x=x, x0=best.x0, t=grid.t[i + 1], history=known[:3])
