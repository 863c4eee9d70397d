"""What a mask leaves open of an image is drawn, and nothing else; or what lies beyond its borders."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.data.degradations.blur import filtered, gaussian_kernel
from calotype.diffusion import CFG, Solver, composite
from calotype.pipeline import STEPS, LatentDiffusion
from calotype.tasks.img2img import img2img
from calotype.tasks.windows import check_pixels, in_windows

FIELD = "masked_image"
MOST_DRAWN = 2**24
NEAR = 1e-3
"""The least share of known pixels around one that makes it close to what is known: three standard deviations off."""
log = logging.getLogger("calotype")


def inpaint(
    model: LatentDiffusion,
    images: Float[Tensor, "n c h w"],
    known: Float[Tensor, "n 1 h w"],
    *,
    seeds: Iterable[int],
    steps: int = STEPS,
    solver: Solver | None = None,
    guidance: CFG | None = None,
    batch_size: int = 32,
    progress: bool = False,
    **fields: Any,
) -> Float[Tensor, "n c h w"]:
    """Return ``images``, in [-1, 1], drawn anew where ``known`` is 0; where it is 1 they stay to the last bit.

    ``seeds`` and ``fields`` hold one value per image. A model that was trained to fill in sees what is known while it
    draws; any other is held to what is known (``img2img``), which fits less well, and a warning says so. Any size is
    taken; images larger than those of training are drawn in windows that overlap (``in_windows``).

    Raises:
        UserError: a value that does not fit, or an image that is too large.
    """
    height, width = images.shape[-2:]
    check_pixels(height, width)
    multiple = model.autoencoder.factor * model.network.config.factor
    beyond = (0, -width % multiple, 0, -height % multiple)
    padded, mask = F.pad(images.cpu(), beyond), F.pad(known.cpu(), beyond)
    size = padded.shape[2], padded.shape[3]
    walk: dict[str, Any] = {
        "seeds": seeds,
        "steps": steps,
        "solver": solver,
        "guidance": guidance,
        "batch_size": batch_size,
        "progress": progress,
        **fields,
    }
    if FIELD in model.conditioner.fields:
        walk |= {"size": size, FIELD: list(zip(padded, mask, strict=True))}
        drawn = in_windows(model, size).sample(**walk)
    else:
        log.warning("this model was not trained to fill in (`calotype run --task inpaint` does): it makes do without")
        drawn = img2img(in_windows(model, size), padded, strength=1.0, known=mask, **walk)
    return paste(images.cpu(), drawn[:, :, :height, :width], known.cpu(), float(model.autoencoder.factor))


def paste(
    images: Float[Tensor, "n c h w"],
    drawn: Float[Tensor, "n c h w"],
    known: Float[Tensor, "n 1 h w"],
    reach: float,
) -> Float[Tensor, "n c h w"]:
    """Return ``images`` where they are known, exactly, and ``drawn`` elsewhere, without a step between the two.

    What is drawn of the known pixels differs a little from them, as the autoencoder is not exact. The mean of that
    difference around a pixel (Gaussian, of standard deviation ``reach``) is added to what is drawn close to what is
    known, less and less up to three times that distance.
    """
    kernel = gaussian_kernel((reach**2, reach**2))
    certain = (known == 1).to(drawn)
    near = torch.stack([filtered(each, kernel) for each in certain])
    near = torch.where(near > NEAR, near, 0)
    difference = torch.stack([filtered(each, kernel) for each in certain * (images - drawn)])
    corrected = drawn + (2 * near).clamp(max=1) * difference / near.clamp(min=NEAR)
    return composite(images, torch.where(near > 0, corrected, drawn).clamp(-1, 1), known)


def outpaint(
    images: Float[Tensor, "n c h w"], *, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0
) -> tuple[Float[Tensor, "n c h2 w2"], Float[Tensor, "n 1 h2 w2"]]:
    """Return a canvas that is larger by these numbers of pixels, with the image on it, and what is known of it.

    Raises:
        ValueError: a number is negative.
        UserError: the canvas would be too large.
    """
    if min(left, top, right, bottom) < 0:
        raise ValueError(f"left, top, right and bottom must be at least 0, not {(left, top, right, bottom)}")
    check_pixels(images.shape[-2] + top + bottom, images.shape[-1] + left + right, MOST_DRAWN)
    margins = (left, right, top, bottom)
    return F.pad(images, margins), F.pad(torch.ones_like(images[:, :1]), margins)
