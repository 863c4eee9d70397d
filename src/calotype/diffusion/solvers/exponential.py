"""Steps in log SNR, exact where the estimate is a polynomial of it: the arithmetic of DPM-Solver and UniPC."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import factorial
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from calotype.diffusion.grid import Grid
from calotype.diffusion.prediction import Estimate
from calotype.diffusion.solvers.quadrature import quadrature_weights

Algorithm = Literal["dpm_solver++", "dpm_solver"]
Variant = Literal["dpm_solver", "taylor"]


@dataclass(frozen=True, eq=False)
class ExponentialSteps:
    """Steps between nodes of ``grid``, with lambda = log(alpha / sigma) and h the difference of two nodes in it.

    ``dpm_solver++`` (arXiv:2211.01095) expands m = x_0, ``dpm_solver`` (arXiv:2206.00927) m = eps, and
    ``sde_dpm_solver++`` (arXiv:2211.01095) is the first for the diffusion SDE, without its noise:

        ++  x' = sigma' / sigma x - alpha' (phi_1(-h) m + phi_2(-h) m_1 + phi_3(-h) m_2)
            x' = alpha' / alpha x - sigma' (phi_1(h)  m + phi_2(h)  m_1 + phi_3(h)  m_2)
        sde x' = sigma' / sigma e^-h x - alpha' (phi_1(-2h) m + phi_2(-2h) m_1 + phi_3(-2h) m_2)
            phi_1(g) = e^g - 1,    phi_2(g) = phi_1(g) / g - 1,    phi_k+1(g) = phi_k(g) / g - 1 / k!

    where m_1 and m_2 estimate the first and second derivative of m, per step of h.
    """

    grid: Grid
    algorithm: Algorithm | Literal["sde_dpm_solver++"]
    variant: Variant | Literal["bh1", "bh2"]

    def expanded(self, estimate: Estimate) -> Float[Tensor, "b c h w"]:
        """Return m."""
        return estimate.eps if self.algorithm == "dpm_solver" else estimate.x0

    def distance(self, i: int, j: int) -> Float64[Tensor, ""]:
        """Return h from node ``i`` to node ``j``; infinite from pure noise and to a clean node."""
        return (self.grid.log_snr[j] - self.grid.log_snr[i]) / 2

    def deviation(self, i: int, j: int) -> Float64[Tensor, ""]:
        """Return the standard deviation of the noise that the SDE adds from ``i`` to ``j``: sigma' sqrt(1 - e^-2h)."""
        if self.algorithm != "sde_dpm_solver++":
            return torch.zeros_like(self.grid.sigma[j])
        return self.grid.sigma[j] * (-torch.expm1(-2 * self.distance(i, j))).sqrt()

    def to(self, i: int, j: int, x: Float[Tensor, "b c h w"], *derivatives: Float[Tensor, "b c h w"]) -> Tensor:
        """Go from ``x`` at node ``i`` to node ``j`` with m and as many of its derivatives as are given."""
        kept, other, g = self._factors(i, j)
        x = kept * x
        for phi, derivative in zip(_phis(g, len(derivatives)), derivatives, strict=True):
            x = x - other * phi * derivative
        return x

    def second(self, i: int, j: int, x: Tensor, m: Tensor, slope: Tensor) -> Float[Tensor, "b c h w"]:
        """Go from ``i`` to ``j`` in second order, with phi_2 as it is for the variant "taylor".

        "dpm_solver" and UniPC's "bh2" take phi_1 / 2 for it, "bh1" takes g / 2.
        """
        match self.variant:
            case "taylor":
                return self.to(i, j, x, m, slope)
            case "bh1":
                _, other, g = self._factors(i, j)
                return self.to(i, j, x, m) - other * g / 2 * slope
            case _:
                return self.to(i, j, x, m + slope / 2)

    def through(self, i: int, j: int, x: Tensor, known: Mapping[int, Tensor]) -> Float[Tensor, "b c h w"]:
        """Go from ``i`` to ``j`` with the polynomial in lambda through the values of m at the nodes in ``known``."""
        kept, other, g = self._factors(i, j)
        nodes = torch.stack([self.distance(i, node) / self.distance(i, j) for node in known])
        moments = torch.stack([factorial(k) * phi for k, phi in enumerate(_phis(g, len(known)))])
        x = kept * x
        for weight, m in zip(quadrature_weights(nodes, moments), known.values(), strict=True):
            x = x - other * weight * m
        return x

    def _factors(self, i: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
        """The factors of x and of m, and g."""
        alpha, sigma, h = self.grid.alpha, self.grid.sigma, self.distance(i, j)
        match self.algorithm:
            case "dpm_solver++":
                return sigma[j] / sigma[i], alpha[j], -h
            case "dpm_solver":
                return alpha[j] / alpha[i], sigma[j], h
            case "sde_dpm_solver++":
                return sigma[j] / sigma[i] * (-h).exp(), alpha[j], -2 * h


def _phis(g: Float64[Tensor, ""], count: int) -> list[Float64[Tensor, ""]]:
    phis = [g.expm1()]
    for k in range(1, count):
        phis.append(phis[-1] / g - 1 / factorial(k))
    return phis
