"""EDM's stochastic sampler."""

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State
from calotype.diffusion.solvers.heun import Heun

MOST = 2**0.5 - 1


@dataclass(frozen=True, kw_only=True)
class EDMStochastic(Solver):
    """Heun's method with noise put in before every step (Algorithm 2, arXiv:2206.00364), for any alpha and sigma.

    In z = x / alpha and s = sigma / alpha, with gamma = min(churn / N, sqrt(2) - 1) for N steps:

        s^ = (1 + gamma) s,    z^ = z + inflation sqrt(s^^2 - s^2) noise
        z~ = z^ + (s' - s^) eps(z^, s^)
        z' = z^ + (s' - s^) (eps(z^, s^) + eps(z~, s')) / 2

    Noise is put in at levels from ``s_min`` to ``s_max`` (the paper's S_tmin and S_tmax; the defaults are its settings
    for ImageNet-64), and not beyond the noisiest time of the schedule. ``churn`` 0 is EDM's Heun method. The step to a
    clean node is Euler's; from pure noise, where s is infinite, it is that of ``Heun``.
    """

    churn: float = 40.0
    s_min: float = 0.05
    s_max: float = 50.0
    inflation: float = 1.003
    kind: Literal["edm_stochastic"] = "edm_stochastic"

    def __post_init__(self) -> None:
        if self.churn < 0:
            raise ValueError(f"churn must be at least 0, not {self.churn}")
        if not 0 <= self.s_min <= self.s_max:
            raise ValueError(f"s_min, s_max must satisfy 0 <= s_min <= s_max, not {self.s_min}, {self.s_max}")
        if self.inflation <= 0:
            raise ValueError(f"inflation must be above 0, not {self.inflation}")

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        return self.churn > 0

    def evaluations(self, steps: int) -> int:
        """Return 2 steps - 1: two in every step but the one to the clean node."""
        return 2 * steps - 1

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:
        """Go from node ``i`` to node ``i + 1``.

        Raises:
            ValueError: ``churn`` asks for noise and there is no source of it.
        """
        if grid.alpha[i] == 0:
            return Heun().step(denoise, state, grid, i, noise)
        x, t, s = self._raised(state.x, grid, i, noise)
        now, alpha, sigma = denoise(x, t), grid.alpha[i + 1], grid.sigma[i + 1]
        moved = State(x=alpha * now.x0 + sigma * now.eps, x0=now.x0, t=grid.t[i + 1])
        if sigma == 0:
            return moved
        then = denoise(moved.x, moved.t)
        return replace(moved, x=moved.x + alpha * (sigma / alpha - s) * (then.eps - now.eps) / 2)

    def _raised(self, x: Tensor, grid: Grid, i: int, noise: NoiseSource | None) -> tuple[Tensor, Tensor, Tensor]:
        """x^, its time and s^."""
        s = grid.sigma[i] / grid.alpha[i]
        gamma = min(self.churn / grid.steps, MOST) if self.s_min <= s <= self.s_max else 0.0
        if gamma == 0:
            return x, grid.t[i], s
        if noise is None:
            raise ValueError("churn above 0 adds noise: give solve(..., noise=NoiseSource(seeds))")
        level = grid.at_log_snr(-2 * ((1 + gamma) * s).log()[None])
        alpha, raised = level.alpha[0], level.sigma[0] / level.alpha[0]
        deviation = self.inflation * (raised**2 - s**2).clamp(min=0).sqrt()
        z = x / grid.alpha[i] + deviation * noise.draw(x.shape[1:], x.dtype, x.device)
        return alpha * z, level.t[0], raised
