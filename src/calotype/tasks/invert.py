"""Inversion: the noise from which a picture would be drawn."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion import CFG, DPMSolver, Grid, NoiseSchedule, Solver, solve
from calotype.pipeline import STEPS, LatentDiffusion
from calotype.utils.errors import UserError


@torch.no_grad()
def invert(
    model: LatentDiffusion,
    images: Float[Tensor, "n c h w"],
    *,
    steps: int = STEPS,
    solver: Solver | None = None,
    guidance: CFG | None = None,
    batch_size: int = 32,
    **fields: Any,
) -> Float[Tensor, "n d h2 w2"]:
    """Return the noise of ``images``, in [-1, 1]: that from which ``model.sample`` draws about the same again.

        noise = invert(model, images, caption=captions)
        same = model.sample(noise=noise, guidance=CFG(1.0), caption=captions)
        other = model.sample(noise=noise, caption=others)

    The grid of sampling is walked backwards with any solver that adds no noise (Sec. 4.3 and 5.4, arXiv:2010.02502).
    The way there and back is as exact as the solver: with more ``steps``, or with Heun, more of the image returns.
    ``fields`` hold one value per image. Unlike in sampling, guidance is off by default: a guided walk back is
    inexact.

    Raises:
        UserError: a value that does not fit.
        ValueError: the solver adds noise.
    """
    for name, values in fields.items():
        if isinstance(values, str) or len(values) != len(images):
            raise UserError(f"{name}: give a list with one value per image, {len(images)} of them")
    solver = solver or DPMSolver()
    if solver.stochastic:
        raise ValueError(
            f"solver: {solver} adds noise, which no walk back can know; take DPMSolver(), DDIM() or Heun()"
        )
    model.latent_shape((images.shape[2], images.shape[3]))
    grid = backwards(model.schedule.grid(steps), model.schedule)
    results = []
    for first in range(0, len(images), batch_size):
        rows = slice(first, first + batch_size)
        own = {name: values[rows] for name, values in fields.items()}
        latents = model.encode(images[rows])
        denoise = model.denoise(len(latents), guidance or CFG(1.0), size=(images.shape[2], images.shape[3]), **own)
        *_, last = solve(denoise, latents, grid, solver)
        results.append(last.x.cpu())
    return torch.cat(results)


def backwards(grid: Grid, schedule: NoiseSchedule) -> Grid:
    """Return ``grid`` from its last node to its first.

    A clean image is taken for one at ``t_min``, from which it hardly differs: the network is shown no clean node.
    """
    t = grid.t.flip(0)
    if grid.sigma[-1] == 0:
        t[0] = schedule.t_min
        t = t[1:] if torch.isclose(t[0], t[1]) else t
    return schedule.grid_at(t, clean=False)
