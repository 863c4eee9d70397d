"""Sampling around what is known of an image."""

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion.solve import Constrain


def known_region(
    x0: Float[Tensor, "b c h w"], known: Float[Tensor, "#b #c h w"], noise: Float[Tensor, "b c h w"]
) -> Constrain:
    """Return what keeps ``x0`` where ``known`` is 1, for ``solve(..., constrain=)``; 0 is where to draw.

        x <- known (alpha x_0 + sigma noise) + (1 - known) x        (Eq. 8, arXiv:2201.09865)

    What is known is noised by one and the same ``noise`` before every step, usually that from which the walk starts.
    The last step is left as it is: put ``x0`` in once more (``composite``).
    """
    return lambda x, alpha, sigma: composite(alpha * x0 + sigma * noise, x, known)


def composite(
    kept: Float[Tensor, "b c h w"], drawn: Float[Tensor, "b c h w"], known: Float[Tensor, "#b #c h w"]
) -> Float[Tensor, "b c h w"]:
    """Return ``kept`` where ``known`` is 1 and ``drawn`` where it is 0, both exactly; in between their mixture."""
    mixture = known * kept + (1 - known) * drawn
    return torch.where(known == 1, kept, torch.where(known == 0, drawn, mixture))
