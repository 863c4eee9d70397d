"""Image to image: a picture is drowned in noise part of the way, and drawn anew from there."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion import CFG, DPMSolver, Grid, NoiseSource, Solver, composite, known_region, solve
from calotype.pipeline import STEPS, LatentDiffusion
from calotype.utils.errors import UserError
from calotype.utils.progress import progress as show_progress

NoiseAt = Literal["start", "node_before"]


@torch.no_grad()
def img2img(
    model: LatentDiffusion,
    images: Float[Tensor, "n c h w"],
    *,
    strength: float,
    seeds: Iterable[int],
    known: Float[Tensor, "k 1 h w"] | None = None,
    steps: int = STEPS,
    noise_at: NoiseAt = "start",
    solver: Solver | None = None,
    guidance: CFG | None = None,
    batch_size: int = 32,
    progress: bool = False,
    **fields: Any,
) -> Float[Tensor, "n c h w"]:
    """Draw ``images``, in [-1, 1], anew; ``seeds`` and ``fields`` hold one value per image.

    ``strength``, above 0 and at most 1, is the share of the ``steps`` that are taken: little changes little. At 1 the
    images play no part, and the result is that of ``model.sample``. Everything else is as there.

    With ``known`` an image is drawn anew only where that is 0, and stays, to the last bit, where it is 1: the walk is
    held to the image's latents there (``known_region``), of which those count that lie wholly in what is known. The
    network itself knows nothing of the mask, so that this works with every model, and fills in less well than one that
    was trained to.

    Raises:
        UserError: a value that does not fit.
    """
    seeds = list(seeds)
    for name, values in {"seeds": seeds, **({} if known is None else {"known": known}), **fields}.items():
        if isinstance(values, str) or len(values) != len(images):
            raise UserError(f"{name}: give a list with one value per image, {len(images)} of them")
    size = (images.shape[2], images.shape[3])
    model.latent_shape(size)
    grid, solver = model.schedule.grid(steps), solver or DPMSolver()
    start, results = start_node(grid, strength), []
    with show_progress("sampling", len(seeds) * (grid.steps - start), unit="steps", quiet=not progress) as bar:
        for first in range(0, len(seeds), batch_size):
            rows = slice(first, first + batch_size)
            own, given = seeds[rows], {name: values[rows] for name, values in fields.items()}
            noise, latents = model.noise(own, size), model.encode(images[rows])
            x = add_noise(latents, noise, grid, start, noise_at) if start > 0 or noise_at != "start" else noise
            where = None if known is None else wholly_known(known[rows].to(latents), model.autoencoder.factor)
            constrain = None if where is None else known_region(latents, where, noise)
            denoise = model.denoise(len(own), guidance and guidance.rows(rows), size=size, **given)
            for state in solve(denoise, x, grid.tail(start), solver, NoiseSource(own), constrain):
                x = state.x
                bar.advance(len(own))
            drawn = model.decode(x if where is None else composite(latents, x, where)).cpu()
            results.append(drawn if known is None else composite(images[rows].cpu(), drawn, known[rows].cpu()))
    return torch.cat(results)


def wholly_known(known: Float[Tensor, "n 1 h w"], factor: int) -> Float[Tensor, "n 1 h2 w2"]:
    """Return how far the least known pixel of each latent's ``factor`` x ``factor`` is known."""
    return -F.max_pool2d(-known, factor)


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
