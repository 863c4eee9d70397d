"""Spatial frequencies of images and latents by the discrete cosine transform, which needs no periodic borders."""

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

HALF = 0.5
MOST_BANDS = 32
ROUNDING = 1e-20


@lru_cache(maxsize=8)
def dct_matrix(n: int) -> Float[Tensor, "n n"]:
    """Return the orthonormal DCT-II of length ``n`` in float64; 1 is the Nyquist frequency and row k is ``k / n``."""
    k, x = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    basis = torch.cos(math.pi / n * (x + 0.5) * k) * math.sqrt(2 / n)
    basis[0] = math.sqrt(1 / n)
    return basis


def radial_frequency(height: int, width: int) -> Float[Tensor, "height width"]:
    """Return ``sqrt((u / height)^2 + (v / width)^2)`` of each coefficient: 1 is the Nyquist frequency of an axis."""
    rows, columns = (torch.arange(n, dtype=torch.float64) / n for n in (height, width))
    return torch.hypot(rows[:, None], columns[None, :])


def upper_half(height: int, width: int) -> Bool[Tensor, "height width"]:
    """Return which coefficients lie at half the Nyquist frequency or above."""
    return radial_frequency(height, width) >= HALF


def low_pass(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Return the images without the upper half of their frequencies; the mean of each stays."""
    height, width = images.shape[2:]
    rows, columns = dct_matrix(height), dct_matrix(width)
    coefficients = rows @ images.detach().cpu().double() @ columns.T
    kept = coefficients.masked_fill(upper_half(height, width), 0.0)
    return (rows.T @ kept @ columns).to(images)


class PowerSpectrum:
    """The mean square of every DCT coefficient of images of one size, by channel, in float64, batch by batch."""

    def __init__(self) -> None:
        self.n = 0
        self.sums: Tensor | None = None

    def add(self, images: Float[Tensor, "b c h w"], variance: Float[Tensor, "b c h w"] | None = None) -> None:
        """Take in images, or the means of random ones with independent elements of this ``variance``.

        Of those the expectation is taken: the coefficients of the mean squared, and the variance's share in each.
        """
        rows, columns = (dct_matrix(n) for n in images.shape[2:])
        power = (rows @ images.detach().cpu().double() @ columns.T).square()
        if variance is not None:
            power += rows.square() @ variance.detach().cpu().double() @ columns.T.square()
        total = power.sum(0)
        self.sums = total if self.sums is None else self.sums + total
        self.n += len(images)

    @property
    def power(self) -> Float[Tensor, "c h w"]:
        """Mean power of each coefficient."""
        if self.sums is None:
            raise ValueError("there are no images to measure")
        return self.sums / self.n

    def high_share(self) -> float | None:
        """Return the share of energy in the upper half of frequencies, means of images left out.

        The mean over channels, each of which counts the same whatever its scale; a channel that is constant in every
        image counts not at all. None where all are.
        """
        power = self._relative()
        return float(power[:, upper_half(*power.shape[1:])].sum(1).mean()) if len(power) else None

    def removed_by_low_pass(self) -> float:
        """Return the mean over images and elements of ``(x - low_pass(x))^2``."""
        power = self.power
        return float(power[:, upper_half(*power.shape[1:])].sum() / power.numel())

    def curve(self) -> list[tuple[float, float]]:
        """Return (frequency, mean power of the coefficients about it), 1 being the mean over all of a channel's.

        White noise is 1 everywhere. Frequencies are means over bands; channels count as in ``high_share``.
        """
        power = self._relative()
        if not len(power):
            return []
        relative = power.mean(0) * (power[0].numel() - 1)
        frequency = radial_frequency(*relative.shape)
        bands = min(MOST_BANDS, *(n for n in relative.shape if n > 1))
        band = (frequency * bands).long()
        band[0, 0] = -1
        members = [band == index for index in range(int(band.max()) + 1)]
        return [(float(frequency[own].mean()), float(relative[own].mean())) for own in members if own.any()]

    def _relative(self) -> Float[Tensor, "d h w"]:
        """Powers without the constant, of the channels that vary by more than rounding, to a sum of 1 in each."""
        power, total = self.power.clone(), self.power.sum((1, 2))
        power[:, 0, 0] = 0.0
        energy = power.sum((1, 2))
        varies = energy > ROUNDING * total
        return power[varies] / energy[varies, None, None]


def white_noise_share(height: int, width: int) -> float | None:
    """Return the ``high_share`` of white noise of this size (1 - pi / 16 for large ones), None for a single element."""
    count = height * width - 1
    return int(upper_half(height, width).sum()) / count if count else None
