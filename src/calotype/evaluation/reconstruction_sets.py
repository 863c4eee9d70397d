"""Distances between the set of originals and the set of their reconstructions: rFD and rKID."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.encoders.image_features import ImageFeatures
from calotype.evaluation.frechet import FRECHET_PROTOCOL, frechet_distance, kernel_distance, paired_kernel_distance
from calotype.utils.errors import UserError
from calotype.utils.seeds import generator

LEAST_IMAGES = 6
HALVES_PROTOCOL = (
    "Original and reconstruction of one image are alike in all that is drawn by chance, so this number can lie below "
    "what two sets of real images have. For a scale the images are cut into two halves at random (fixed seed): "
    "reconstructions of one half against originals of the other (halves), beside the originals of both (real)."
)


def reconstruction_distances(
    originals: Float[Tensor, "n d"], reconstructions: Float[Tensor, "n d"], network: ImageFeatures
) -> dict[str, dict[str, Any]]:
    """Return ``rfd`` and ``rkid``, the Frechet and kernel distance of features by ``network``, as plain data.

    ``halves`` and ``real`` of ``rfd`` have as many images each, so that they compare: what reconstruction adds is their
    difference. ``rkid`` leaves out pairs of an image with itself, and needs no such care; its ``real`` is the same
    distance between the halves of the originals, which is 0 but for chance. The Frechet distance on FID's published
    Inception weights is called ``rFID``; on other features never.

    Raises:
        UserError: fewer than 6 images.
    """
    n = len(originals)
    if n < LEAST_IMAGES:
        raise UserError(f"distances between sets need at least {LEAST_IMAGES} images, there are {n}")
    order = torch.randperm(n, generator=generator("evaluation", "halves"))
    first, second = order[: n // 2], order[n // 2 : n // 2 * 2]
    kernel, real_kernel = (
        paired_kernel_distance(originals, reconstructions),
        kernel_distance(originals[first], originals[second]),
    )
    protocol = f"{n} originals against their {n} reconstructions. {network.protocol} "
    return {
        "rfd": {
            "name": "rFID" if network.is_of_fid else f"rFD-{network.short_name}",
            "value": frechet_distance(originals, reconstructions),
            "halves": frechet_distance(reconstructions[first], originals[second]),
            "real": frechet_distance(originals[first], originals[second]),
            "n": n,
            "n_half": len(first),
            "protocol": f"{protocol}{FRECHET_PROTOCOL} {HALVES_PROTOCOL}",
        },
        "rkid": {
            "name": f"rKID-{network.short_name}",
            "value": kernel.value,
            "standard_error": kernel.standard_error,
            "real": real_kernel.value,
            "real_standard_error": real_kernel.standard_error,
            "n": n,
            "n_half": len(first),
            "protocol": f"{protocol}{kernel.protocol} Real: two halves of the originals, as independent sets.",
        },
    }
