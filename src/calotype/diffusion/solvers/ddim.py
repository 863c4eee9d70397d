"""DDIM."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float64
from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State


@dataclass(frozen=True, kw_only=True)
class DDIM(Solver):
    """Denoising diffusion implicit models (Eq. 12 and 16, arXiv:2010.02502), for any alpha and sigma.

    From level (alpha, sigma) to (alpha', sigma'), with z standard normal noise:

        x' = alpha' x_0 + sqrt(sigma'^2 - s^2) eps + temperature s z
        s  = eta sigma' sqrt(1 - (alpha sigma' / (alpha' sigma))^2)

    ``eta`` 0 is deterministic, and Euler's method on a flow; ``eta`` 1 draws from q(x' | x, x_0), as ``DDPM`` does.
    """

    eta: float = 0.0
    temperature: float = 1.0
    kind: Literal["ddim"] = "ddim"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], not {self.eta}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, not {self.temperature}")

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        return self.eta > 0

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:
        """Go from node ``i`` to node ``i + 1``.

        Raises:
            ValueError: ``eta`` asks for noise and there is no source of it.
        """
        now, s = denoise(state.x, grid.t[i]), self.deviation(grid, i)
        x = grid.alpha[i + 1] * now.x0 + (grid.sigma[i + 1] ** 2 - s**2).clamp(min=0).sqrt() * now.eps
        if s > 0:
            if noise is None:
                raise ValueError("eta above 0 adds noise: give solve(..., noise=NoiseSource(seeds))")
            x = x + self.temperature * s * noise.draw(x.shape[1:], x.dtype, x.device)
        return State(x=x, x0=now.x0, t=grid.t[i + 1])

    def deviation(self, grid: Grid, i: int) -> Float64[Tensor, ""]:
        """Return s, the standard deviation of the noise that the step from node ``i`` adds at temperature 1."""
        sigma = grid.sigma[i + 1]
        kept = grid.alpha[i] * sigma / (grid.alpha[i + 1] * grid.sigma[i])
        return self.eta * sigma * (1 - kept**2).clamp(min=0).sqrt()
