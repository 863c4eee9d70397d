"""The linear map from latents to colours, in closed form."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from calotype.data.loader import Loader
from calotype.models.autoencoder import Autoencoder
from calotype.models.latent_rgb import LatentToRGB

FLOAT32_NOISE = 1e-10
"""Directions of latents with less than this share of the largest second moment hold rounding errors, no colours."""


@torch.no_grad()
def latent_to_rgb(
    autoencoder: Autoencoder,
    loader: Loader,
    *,
    shift: Sequence[float],
    scale: Sequence[float],
    limit: int | None = None,
) -> LatentToRGB:
    """Fit the map that gives the images, averaged over the pixels of each latent position, from normalised latents.

    Ordinary least squares with a bias over the first ``limit`` images: ``argmin sum |W z + b - mean(pixels)|^2``, by
    the normal equations in float64, with the smallest W where channels depend on each other. ``shift`` and ``scale``
    are those of ``latent_statistics``, whether or not the autoencoder has them yet; z is the posterior's mode.
    """
    gram = torch.zeros(autoencoder.latent_channels + 1, autoencoder.latent_channels + 1, dtype=torch.float64)
    moments: Tensor | None = None
    for batch in loader.all(64):
        images = batch.images.to(autoencoder.latent_shift)
        raw = rearrange(autoencoder.encode(images).mode(), "b c h w -> (b h w) c").double().cpu()
        z = (raw - torch.tensor(shift, dtype=torch.float64)) * torch.tensor(scale, dtype=torch.float64)
        z = F.pad(z, (0, 1), value=1.0)
        colours = rearrange(F.avg_pool2d(images, autoencoder.factor), "b d h w -> (b h w) d").double().cpu()
        gram += z.T @ z
        moments = z.T @ colours if moments is None else moments + z.T @ colours
        if limit is not None and int(batch.indices[-1]) + 1 >= limit:
            break
    assert moments is not None, "a loader has images"
    solution = (torch.linalg.pinv(gram, rtol=FLOAT32_NOISE, hermitian=True) @ moments).T.tolist()
    return LatentToRGB(weight=tuple(tuple(row[:-1]) for row in solution), bias=tuple(row[-1] for row in solution))
