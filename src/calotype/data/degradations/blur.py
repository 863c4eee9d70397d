"""Gaussian blur by a kernel of any direction."""

import math

import torch
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
    """Return ``image`` convolved with ``kernel``; beyond its borders it goes on as in a mirror.

    By Fourier transforms: the cost is that of the image, however large the kernel.
    """
    radius, (height, width) = len(kernel) // 2, image.shape[-2:]
    rows, columns = (mirrored(length, before=radius, after=radius) for length in (height, width))
    padded = image[:, rows][:, :, columns]
    size = padded.shape[-2:]
    product = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel.to(image), s=size)
    # The first 2 radius rows and columns are those where the circle closes.
    return torch.fft.irfft2(product, s=size)[:, 2 * radius :, 2 * radius :]
