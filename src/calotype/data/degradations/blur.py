"""Gaussian blur by a kernel of any direction."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.utils.mirror import mirrored


def gaussian_kernel(variances: tuple[float, float], angle: float = 0.0) -> Float[Tensor, "k k"]:
    """Return the values, normalised to sum 1, of a Gaussian with these variances (of pixels) along two axes.

    The first axis is ``angle`` from that of the columns (x), towards that of the rows (y). The kernel reaches three
    standard deviations of the wider axis; variances of 0 give a kernel of one pixel.
    """
    radius = math.ceil(3 * math.sqrt(max(variances)))
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    cosine, sine = math.cos(angle), math.sin(angle)
    along, across = cosine * x + sine * y, cosine * y - sine * x
    first, second = (max(variance, 1e-8) for variance in variances)
    kernel = torch.exp(-0.5 * (along.square() / first + across.square() / second))
    return (kernel / kernel.sum()).float()


def filtered(image: Float[Tensor, "c h w"], kernel: Float[Tensor, "k k"]) -> Float[Tensor, "c h w"]:
    """Return ``image`` convolved with a symmetric ``kernel``; beyond its borders it goes on as in a mirror."""
    radius, (height, width) = len(kernel) // 2, image.shape[-2:]
    rows, columns = (mirrored(length, before=radius, after=radius) for length in (height, width))
    padded = image[:, rows][:, :, columns]
    return F.conv2d(padded[:, None], kernel[None, None].to(image))[:, 0]
