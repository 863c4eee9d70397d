"""PLMS: pseudo linear multistep."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State
from calotype.diffusion.solvers.ddim import DDIM
from calotype.diffusion.solvers.heun import Heun
from calotype.diffusion.solvers.quadrature import quadrature_weights

MOST = 4


@dataclass(frozen=True, kw_only=True)
class PLMS(Solver):
    """Pseudo linear multistep sampling (PNDM, arXiv:2202.09778): Adams-Bashforth of order 4 on eps.

    A step is DDIM's with a combination of eps of this node and up to three before, x_0 being what follows from it:

        x' = alpha' x_0 + sigma' e,    x_0 = (x - sigma e) / alpha,    e = (55 eps - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24

    Orders 2 and 3 come before there are so many. With ``start`` "improved_euler" the first step has e the mean of eps
    here and at the end of a trial step, unless that is clean. (The network is never shown the last node: where the
    first step is the only one, the trial is shown as if at its start.) From pure noise, where eps does not say what x_0
    is, it is Heun's. With "euler" it is DDIM's: iPNDM (arXiv:2204.13902), which evaluates once in every step.

    Those ``weights`` are made for "equal_steps" in s = sigma / alpha. On other grids, the usual ones included, the
    order is 2. "variable_steps" integrates the polynomial in s through the eps at hand, whatever the steps: rhoAB-DEIS
    (ibid.). The eps of pure noise, where s is infinite, is then left out.
    """

    start: Literal["improved_euler", "euler"] = "improved_euler"
    weights: Literal["equal_steps", "variable_steps"] = "equal_steps"
    kind: Literal["plms"] = "plms"

    def evaluations(self, steps: int) -> int:
        """Return steps, and one more if the first has two, which it has not if it is the only one."""
        return steps + (self.start == "improved_euler" and steps > 1)

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:
        """Go from node ``i`` to node ``i + 1``; no noise is added."""
        if grid.alpha[i] == 0:
            first = Heun() if self.start == "improved_euler" else DDIM()
            history = (state.x / grid.sigma[i],) if self.weights == "equal_steps" else ()
            return replace(first.step(denoise, state, grid, i, noise), history=history)
        now = denoise(state.x, grid.t[i])
        known = (now.eps, *state.history)
        eps = now.eps
        if len(known) > 1:
            weights = self._adams_bashforth(grid, i, len(known))
            eps = sum((weight * e for weight, e in zip(weights, known, strict=True)), torch.zeros_like(eps))
        elif i == 0 and grid.sigma[1] > 0 and self.start == "improved_euler":
            trial = grid.alpha[i + 1] * now.x0 + grid.sigma[i + 1] * now.eps
            eps = (now.eps + denoise(trial, grid.t[min(1, grid.steps - 1)]).eps) / 2
        best = now.with_eps(eps, state.x)
        x = grid.alpha[i + 1] * best.x0 + grid.sigma[i + 1] * best.eps
        return State(x=x, x0=best.x0, t=grid.t[i + 1], history=known[: MOST - 1])

    def _adams_bashforth(self, grid: Grid, i: int, count: int) -> Float64[Tensor, " n"]:
        """The weights of eps at node ``i`` and before; the mean over the step of the polynomial through them."""
        back = torch.arange(count, dtype=torch.float64, device=grid.t.device)
        if self.weights == "variable_steps":
            s = (grid.sigma / grid.alpha)[i + 1 - count : i + 2].flip(0)
            back = (s[1] - s[1:]) / (s[0] - s[1])
        return quadrature_weights(-back, 1 / torch.arange(1, count + 1, dtype=torch.float64, device=back.device))
