"""The one sampling loop."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State

Constrain = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, alpha, sigma) -> x: what is known of an image at that noise level is put into x."""


def solve(
    denoise: Denoise,
    x: Float[Tensor, "b c h w"],
    grid: Grid,
    solver: Solver,
    noise: NoiseSource | None = None,
    constrain: Constrain | None = None,
    constrain_when: Literal["before", "after"] = "before",
) -> Iterator[State]:
    """Walk ``x``, an image at the noise of the grid's first node, to the last; yield the state after every step.

    Arithmetic is float32 at least, whatever the dtype of ``x`` and of the network, and keeps no graph.

    Args:
        denoise: ``denoiser.bind(conditioning)`` or a guidance of it.
        x: ``NoiseSource.initial`` for a grid that starts in pure noise.
        grid: ``schedule.grid(steps)``.
        solver: the update rule.
        noise: for solvers that add noise.
        constrain: applied to x before every step (inpainting); the result of the last step is left as it is.
        constrain_when: ``"after"`` applies ``constrain`` to the result of every step, the last included, but at the
            noise level that the step came from: one step noisier than x is, as the reference's ancestral sampler does.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    state = State(x=x, x0=x, t=grid.t[0])
    for i in range(grid.steps):
        with torch.no_grad():
            if constrain is not None and constrain_when == "before":
                state = replace(state, x=constrain(state.x, grid.alpha[i], grid.sigma[i]))
            state = solver.step(denoise, state, grid, i, noise)
            if constrain is not None and constrain_when == "after":
                state = replace(state, x=constrain(state.x, grid.alpha[i], grid.sigma[i]))
        yield state
