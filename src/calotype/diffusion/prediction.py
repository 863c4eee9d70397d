"""What a network predicts, and what that says about the image and the noise.

Every prediction is a linear form p x_0 + q eps. With x_t = alpha x_0 + sigma eps these are two equations in two
unknowns, of determinant d = alpha q - sigma p, and one solution serves all predictions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Prediction = Literal["eps", "x0", "v", "flow"]
Level = Float[Tensor, ""] | Float[Tensor, "b 1 1 1"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """The clean image and the noise that a denoiser sees in x_t = alpha x_0 + sigma eps.

    ``view`` is what ``map_x0`` did to it, so that it can be done to an estimate that is derived from it.
    """

    x0: Float[Tensor, "b c h w"]
    eps: Float[Tensor, "b c h w"]
    alpha: Level
    sigma: Level
    view: "Callable[[Estimate], Estimate] | None" = None

    def with_x0(self, x0: Float[Tensor, "b c h w"], keep_eps: bool = False) -> "Estimate":
        """Replace the image (clipped, quantised ...); eps follows so that x_t stays what it is, unless ``keep_eps``."""
        eps = self.eps if keep_eps else self.eps + self.alpha / self.sigma * (self.x0 - x0)
        return Estimate(x0, eps, self.alpha, self.sigma, self.view)

    def with_eps(self, eps: Float[Tensor, "b c h w"], x_t: Float[Tensor, "b c h w"]) -> "Estimate":
        """Replace the noise; the image, ``view`` included, follows from the ``x_t`` that this estimate is of."""
        plain = Estimate((x_t - self.sigma * eps) / self.alpha, eps, self.alpha, self.sigma)
        return plain if self.view is None else self.view(plain)

    def lerp(self, other: "Estimate", weight: float | Float[Tensor, "b 1 1 1"]) -> "Estimate":
        """Return self + weight (other - self), both estimates being of the same x_t; the result is again of it."""
        x0, eps = torch.lerp(self.x0, other.x0, weight), torch.lerp(self.eps, other.eps, weight)
        return Estimate(x0, eps, self.alpha, self.sigma)

    def halves(self) -> tuple["Estimate", "Estimate"]:
        """Split the batch in the middle."""
        half = len(self.x0) // 2

        def part(rows: slice) -> "Estimate":
            alpha, sigma = (a[rows] if a.ndim else a for a in (self.alpha, self.sigma))
            return Estimate(self.x0[rows], self.eps[rows], alpha, sigma)

        return part(slice(None, half)), part(slice(half, None))


def estimate(
    prediction: Prediction, output: Float[Tensor, "b c h w"], x_t: Float[Tensor, "b c h w"], alpha: Level, sigma: Level
) -> Estimate:
    """Return what a network's ``output`` at ``x_t`` says.

    x_0 = (q x_t - sigma output) / d and eps = (alpha output - p x_t) / d; of these, a predicted one is the output.
    """
    p, q = _form(prediction, alpha, sigma)
    d = alpha * q - sigma * p
    return Estimate(q / d * x_t - sigma / d * output, alpha / d * output - p / d * x_t, alpha, sigma)


def target(
    prediction: Prediction, x0: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], alpha: Level, sigma: Level
) -> Float[Tensor, "b c h w"]:
    """Return what a network should say: p x_0 + q eps."""
    p, q = _form(prediction, alpha, sigma)
    return p * x0 + q * noise


def x0_error(prediction: Prediction, alpha: Float[Tensor, "*s"], sigma: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Return by how much an error of the network's output enters x_0: sigma / |d|, since x_t is given."""
    if prediction == "x0":
        return torch.ones_like(sigma)
    p, q = _form(prediction, alpha, sigma)
    return sigma / (alpha * q - sigma * p).abs()


def eps_error(prediction: Prediction, alpha: Float[Tensor, "*s"], sigma: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Return by how much an error of the network's output enters eps: alpha / |d|."""
    if prediction == "eps":
        return torch.ones_like(alpha)
    p, q = _form(prediction, alpha, sigma)
    return alpha / (alpha * q - sigma * p).abs()


def _form(prediction: Prediction, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    match prediction:
        case "eps":
            return zero, one
        case "x0":
            return one, zero
        case "v":  # Sec. 4, arXiv:2202.00512
            return -sigma, alpha
        case "flow":
            return -one, one
