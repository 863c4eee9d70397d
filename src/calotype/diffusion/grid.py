"""The nodes through which a solver walks from noise to image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from jaxtyping import Float64
from torch import Tensor

Spacing = Literal[
    "trailing", "leading", "linspace", "quadratic", "log_snr", "karras", "beta", "reference", "reference_quad"
]


@dataclass(frozen=True, eq=False)
class Grid:
    """N + 1 nodes (t, alpha, sigma) in float64, from noise to image: N steps.

    The last node is usually *clean* (alpha 1, sigma 0): a solver lands on it and the network is never shown it.
    ``at_log_snr`` makes nodes of the same schedule elsewhere, for solvers that leave these.
    Made by ``NoiseSchedule.grid`` and ``NoiseSchedule.grid_at``.
    """

    t: Float64[Tensor, " nodes"]
    alpha: Float64[Tensor, " nodes"]
    sigma: Float64[Tensor, " nodes"]
    at_log_snr: Callable[[Float64[Tensor, " n"]], "Grid"]

    @property
    def steps(self) -> int:
        """Number of steps, one less than the nodes."""
        return len(self.t) - 1

    def tail(self, node: int) -> "Grid":
        """Return the grid from ``node`` on: a walk that starts there."""
        return Grid(self.t[node:], self.alpha[node:], self.sigma[node:], self.at_log_snr)

    @cached_property
    def log_snr(self) -> Float64[Tensor, " nodes"]:
        """log(alpha^2 / sigma^2) at the nodes; infinite at a clean one, minus infinite at pure noise."""
        return 2 * (self.alpha / self.sigma).log()
