"""Gaussian noise as sensors and scanners make it: of each value, of all channels alike, or correlated between them."""

from random import Random

import torch
from jaxtyping import Float
from torch import Tensor


def add_noise(
    image: Float[Tensor, "c h w"], level: float, highest: float, random: Random, generator: torch.Generator
) -> Float[Tensor, "c h w"]:
    """Add noise of standard deviation ``level``: in two cases of five one of each value, in two one of all channels.

    In the fifth case it has a covariance between channels, of which no eigenvalue is above ``highest`` squared
    (Sec. 3.4 of arXiv:2103.14006). With one channel there is just one kind.
    """
    channels, height, width = image.shape
    kind = random.choices(("each", "grey", "correlated"), (2, 2, 1))[0] if channels > 1 else "each"
    if kind == "correlated":
        root = highest * covariance_root(channels, generator)
        noise = torch.einsum("dc,chw->dhw", root, torch.randn(channels, height, width, generator=generator))
    else:
        shape = (1 if kind == "grey" else channels, height, width)
        noise = level * torch.randn(shape, generator=generator)
    return image + noise.to(image)


def covariance_root(channels: int, generator: torch.Generator) -> Float[Tensor, "c c"]:
    """Return R of a random covariance R R^T: any directions (Haar), eigenvalues uniform between 0 and 1."""
    normal = torch.randn(channels, channels, generator=generator)
    directions, upper = torch.linalg.qr(normal)
    eigenvalues = torch.rand(channels, generator=generator)
    return directions * upper.diagonal().sign() * eigenvalues.sqrt()
