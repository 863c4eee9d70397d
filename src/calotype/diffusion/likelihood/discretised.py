"""Distributions over the levels of a pixel: continuous ones, integrated over the bin of each level."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MOST_FITTED = 2**18


@dataclass(frozen=True, eq=False)
class PixelLikelihood(ABC):
    """P(x | mean) over levels ``width`` apart from -1 to 1: the mass of the level's bin (Eq. 13, arXiv:2006.11239).

    The bins of -1 and 1 reach to infinity, so that the levels' probabilities add up to 1. ``width`` is one number, or
    one for each channel ``[c, 1, 1]``; ``scale`` is that of the distribution, in the same units.
    """

    width: float | Tensor
    scale: float

    @abstractmethod
    def log_cdf(self, x: Tensor) -> Tensor:
        """Return the logarithm of the distribution function at ``x``, for a scale of 1; it is symmetric about 0."""

    def __call__(self, x: Float[Tensor, "b ..."], mean: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
        """Return -log P(x | mean) in nats per image; ``x`` holds levels, -1 + k width."""
        half = torch.as_tensor(self.width, dtype=mean.dtype, device=mean.device) / 2
        low, high = (x - half - mean) / self.scale, (x + half - mean) / self.scale
        low = low.masked_fill(x < -1 + half, -math.inf)
        high = high.masked_fill(x > 1 - half, math.inf)
        mirrored = low + high > 0  # where distribution functions are near 1, take the other tail
        low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
        below, upto = self.log_cdf(low), self.log_cdf(high)
        return -(upto + torch.log(-torch.expm1(below - upto))).flatten(1).sum(1)

    @classmethod
    def fit(
        cls, x: Float[Tensor, "b ..."], mean: Float[Tensor, "b ..."], width: float | Tensor
    ) -> "tuple[PixelLikelihood, float]":
        """Return the most likely scale for these images, and the nats per number that are left (golden section).

        Of more than 262144 numbers evenly spaced ones count.
        """
        widths = torch.as_tensor(width, dtype=torch.float64, device=mean.device).expand(x.shape)
        numbers = widths.flatten(), x.flatten(), mean.flatten()
        step = math.ceil(x.numel() / MOST_FITTED)
        widths, levels, centres = (each[::step].double() for each in numbers)

        def loss(log_scale: float) -> float:
            return float(cls(widths, math.exp(log_scale))(levels[None], centres[None])) / len(levels)

        low, high, ratio = math.log(float(widths.min()) * 1e-2), math.log(2.0), (math.sqrt(5) - 1) / 2
        for _ in range(40):
            inner, outer = high - ratio * (high - low), low + ratio * (high - low)
            low, high = (low, outer) if loss(inner) <= loss(outer) else (inner, high)
        return cls(width, math.exp((low + high) / 2)), loss((low + high) / 2)


class DiscretisedNormal(PixelLikelihood):
    """A normal distribution with standard deviation ``scale``."""

    def log_cdf(self, x: Tensor) -> Tensor:
        """Return log Phi(x)."""
        return torch.special.log_ndtr(x)


class DiscretisedLaplace(PixelLikelihood):
    """A Laplace distribution, exp(-|x - mean| / scale) / (2 scale): what a mean absolute error assumes."""

    def log_cdf(self, x: Tensor) -> Tensor:
        """Return log(exp(x) / 2) below 0 and log(1 - exp(-x) / 2) above."""
        return torch.where(x < 0, x - math.log(2), torch.log1p(-0.5 * torch.exp(-x.clamp(min=0))))
