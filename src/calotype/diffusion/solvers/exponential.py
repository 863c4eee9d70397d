"""Steps in log SNR, exact where the estimate is a polynomial of it: the arithmetic of DPM-Solver."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Float64
from torch import Tensor

from calotype.diffusion.grid import Grid
from calotype.diffusion.prediction import Estimate

Algorithm = Literal["dpm_solver++", "dpm_solver"]
Variant = Literal["dpm_solver", "taylor"]


@dataclass(frozen=True, eq=False)
class ExponentialSteps:
    """Steps between nodes of ``grid``, with lambda = log(alpha / sigma) and h the difference of two nodes in it.

    ``dpm_solver++`` (arXiv:2211.01095) expands m = x_0, ``dpm_solver`` (arXiv:2206.00927) m = eps:

        ++  x' = sigma' / sigma x - alpha' (phi_1(-h) m + phi_2(-h) m_1 + phi_3(-h) m_2)
            x' = alpha' / alpha x - sigma' (phi_1(h)  m + phi_2(h)  m_1 + phi_3(h)  m_2)
            phi_1(g) = e^g - 1,    phi_2(g) = phi_1(g) / g - 1,    phi_3(g) = phi_2(g) / g - 1/2

    where m_1 and m_2 estimate the first and second derivative of m, per step of h.
    """

    grid: Grid
    algorithm: Algorithm
    variant: Variant

    def expanded(self, estimate: Estimate) -> Float[Tensor, "b c h w"]:
        """Return m."""
        return estimate.x0 if self.algorithm == "dpm_solver++" else estimate.eps

    def distance(self, i: int, j: int) -> Float64[Tensor, ""]:
        """Return h from node ``i`` to node ``j``; infinite from pure noise and to a clean node."""
        return (self.grid.log_snr[j] - self.grid.log_snr[i]) / 2

    def to(self, i: int, j: int, x: Float[Tensor, "b c h w"], *derivatives: Float[Tensor, "b c h w"]) -> Tensor:
        """Go from ``x`` at node ``i`` to node ``j`` with m and as many of m_1, m_2 as are given."""
        kept, other = self.grid.sigma, self.grid.alpha
        g = -self.distance(i, j)
        if self.algorithm == "dpm_solver":
            kept, other, g = other, kept, -g
        phi = g.expm1()
        x = kept[j] / kept[i] * x - other[j] * phi * derivatives[0]
        for tail, derivative in zip((1, 1 / 2), derivatives[1:], strict=False):
            phi = phi / g - tail
            x = x - other[j] * phi * derivative
        return x

    def second(self, i: int, j: int, x: Tensor, m: Tensor, slope: Tensor) -> Float[Tensor, "b c h w"]:
        """Go from ``i`` to ``j`` in second order; the variant "dpm_solver" takes phi_1 / 2 for phi_2."""
        return self.to(i, j, x, m, slope) if self.variant == "taylor" else self.to(i, j, x, m + slope / 2)
