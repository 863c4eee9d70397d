"""Image to image: a picture is drowned in noise part of the way, and drawn anew from there."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion import CFG, DPMSolver, Grid, NoiseSource, Solver, solve
from calotype.pipeline import STEPS, LatentDiffusion
from calotype.utils.errors import UserError

NoiseAt = Literal["start", "node_before"]


@torch.no_grad()
def img2img(
    model: LatentDiffusion,
    images: Float[Tensor, "n c h w"],
    *,
    strength: float,
    seeds: Iterable[int],
    steps: int = STEPS,
    noise_at: NoiseAt = "start",
    solver: Solver | None = None,
    guidance: CFG | None = None,
    batch_size: int = 32,
    **fields: Any,
) -> Float[Tensor, "n c h w"]:
    """Draw ``images``, in [-1, 1], anew; ``seeds`` and ``fields`` hold one value per image.

    ``strength``, above 0 and at most 1, is the share of the ``steps`` that are taken: little changes little. At 1 the
    images play no part, and the result is that of ``model.sample``. Everything else is as there.

    Raises:
        UserError: a value that does not fit.
    """
    seeds = list(seeds)
    for name, values in {"seeds": seeds, **fields}.items():
        if isinstance(values, str) or len(values) != len(images):
            raise UserError(f"{name}: give a list with one value per image, {len(images)} of them")
    size = (images.shape[2], images.shape[3])
    model.latent_shape(size)
    grid, solver = model.schedule.grid(steps), solver or DPMSolver()
    start = start_node(grid, strength)
    results = []
    for first in range(0, len(seeds), batch_size):
        rows = slice(first, first + batch_size)
        own = seeds[rows]
        denoise = model.denoise(len(own), guidance, **{name: values[rows] for name, values in fields.items()})
        x = model.noise(own, size)
        if start > 0 or noise_at != "start":
            x = add_noise(model.encode(images[rows]), x, grid, start, noise_at)
        *_, last = solve(denoise, x, grid.tail(start), solver, noise=NoiseSource(own))
        results.append(model.decode(last.x).cpu())
    return torch.cat(results)


def start_node(grid: Grid, strength: float) -> int:
    """Return the node from which ``strength`` of the grid's steps remain, to the nearest step and at least one.

    Raises:
        UserError: ``strength`` is not above 0 and at most 1.
    """
    if not 0 < strength <= 1:
        raise UserError(f"strength must be above 0 and at most 1, not {strength}")
    return grid.steps - max(1, round(strength * grid.steps))


def add_noise(
    latents: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    grid: Grid,
    start: int,
    noise_at: NoiseAt = "start",
) -> Float[Tensor, "b c h w"]:
    """Return ``latents`` at the noise of a walk along ``grid.tail(start)``: alpha latents + sigma noise.

    ``noise_at="node_before"`` takes the noise level of the node before, as the reference's script does: a little more
    than the network is told.

    Raises:
        UserError: there is no node before ``start``.
    """
    node = start - (noise_at == "node_before")
    if node < 0:
        raise UserError("strength: the first node has none before it; take less strength or noise_at 'start'")
    return grid.alpha[node] * latents + grid.sigma[node] * noise
