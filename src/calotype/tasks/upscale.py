"""Images enlarged by a model that was trained to: of any size, in overlapping windows."""

import math
from collections.abc import Iterable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from calotype.conditioner import LowResolution, PassThrough
from calotype.diffusion import CFG, Solver
from calotype.pipeline import STEPS, LatentDiffusion
from calotype.tasks.windows import check_pixels, in_windows
from calotype.utils.errors import UserError
from calotype.utils.mirror import mirrored
from calotype.utils.size import height_width

FIELD = "low_resolution"


def upscaling_factor(model: LatentDiffusion) -> int:
    """Return how many times larger, along each axis, this model makes images.

    Raises:
        UserError: it was not trained to.
    """
    embedder = model.conditioner.embedders[FIELD] if FIELD in model.conditioner.fields else None
    if isinstance(embedder, LowResolution):
        return embedder.config.factor
    if isinstance(embedder, PassThrough):  # the reference's: images are as large as the latents
        return model.autoencoder.factor
    takes = ", ".join(model.conditioner.fields) or "nothing: it is unconditional"
    raise UserError(f"this model enlarges nothing (it takes {takes}): train one with `calotype run --task upscale`")


def upscale(
    model: LatentDiffusion,
    images: Float[Tensor, "n c h w"],
    *,
    seeds: Iterable[int],
    steps: int = STEPS,
    solver: Solver | None = None,
    guidance: CFG | None = None,
    batch_size: int = 32,
    progress: bool = False,
    **fields: Any,
) -> Float[Tensor, "n c h2 w2"]:
    """Return ``images``, in [-1, 1], ``upscaling_factor(model)`` times as large; one seed (and field) for each.

    Any size is taken: images are continued as in a mirror to one that fits the networks and is no smaller than the
    images of training, and the result is cut. What is larger than those is denoised and decoded in windows that overlap
    (``in_windows``): every step averages them, so that they agree.

    Raises:
        UserError: the model was not trained for it, a value does not fit, or the result would be too large.
    """
    factor, (height, width) = upscaling_factor(model), images.shape[-2:]
    check_pixels(height * factor, width * factor)
    trained = height_width(model.first_stage.size)
    rows, columns = (
        mirrored(length, after=_fitting(model, length, factor, least) - length)
        for length, least in zip((height, width), trained, strict=True)
    )
    size = len(rows) * factor, len(columns) * factor
    fields[FIELD] = list(images.cpu()[:, :, rows][:, :, :, columns])
    drawn = in_windows(model, size).sample(
        seeds=seeds,
        steps=steps,
        solver=solver,
        guidance=guidance,
        size=size,
        batch_size=batch_size,
        progress=progress,
        **fields,
    )
    return drawn[:, :, : height * factor, : width * factor]


def _fitting(model: LatentDiffusion, length: int, factor: int, least: int) -> int:
    """Return the least length from ``length`` (and ``least`` / factor) on, of which the networks take the large one."""
    multiple = model.autoencoder.factor * model.network.config.factor
    step = multiple // math.gcd(multiple, factor)
    return step * math.ceil(max(length, least / factor) / step)
