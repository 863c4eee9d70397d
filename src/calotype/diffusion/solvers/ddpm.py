"""DDPM: ancestral sampling."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float64, Int
from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.solvers.base import Solver, State


@dataclass(frozen=True, kw_only=True)
class DDPM(Solver):
    """Ancestral sampling (Algorithm 2, arXiv:2006.11239), for any alpha and sigma and any two levels.

    x' is drawn from q(x' | x, x_0), with z standard normal noise, a = alpha / alpha' the part of the image that the way
    from x' to x keeps and b = sigma^2 - a^2 sigma'^2 the noise that it adds (beta, from one t of a table to the next):

        x'  = (alpha' b x_0 + a sigma'^2 x) / sigma^2 + temperature s z            (mean: Eq. 7)
        s^2 = (1 - v_posterior) b sigma'^2 / sigma^2 + v_posterior b

    The variance of q (``v_posterior`` 0) fits data that are a single image, b (``v_posterior`` 1) data that are normal;
    they are the two extremes of Sec. 3.2. The step to a clean node adds no noise. ``DDIM(eta=1)`` is the same with
    ``v_posterior`` 0, written in eps.
    """

    v_posterior: float = 0.0
    temperature: float = 1.0
    kind: Literal["ddpm"] = "ddpm"

    def __post_init__(self) -> None:
        if not 0 <= self.v_posterior <= 1:
            raise ValueError(f"v_posterior must lie in [0, 1], not {self.v_posterior}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be at least 0, not {self.temperature}")

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        return True

    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:
        """Go from node ``i`` to node ``i + 1``.

        Raises:
            ValueError: there is no source of noise.
        """
        x0 = denoise(state.x, grid.t[i]).x0
        of_x0, of_x, variance = self.posterior(grid, i)
        x = of_x0 * x0 + of_x * state.x
        if grid.sigma[i + 1] > 0:
            if noise is None:
                raise ValueError("DDPM adds noise: give solve(..., noise=NoiseSource(seeds))")
            x = x + self.temperature * variance.sqrt() * noise.draw(x.shape[1:], x.dtype, x.device)
        return State(x=x, x0=x0, t=grid.t[i + 1])

    def posterior(
        self, grid: Grid, i: int | Int[Tensor, " n"]
    ) -> tuple[Float64[Tensor, "*n"], Float64[Tensor, "*n"], Float64[Tensor, "*n"]]:
        """Return the factors of x_0 and of x in the mean of the step from node ``i``, or many, and its variance s^2."""
        variance, before = grid.sigma[i] ** 2, grid.sigma[i + 1] ** 2
        kept = grid.alpha[i] / grid.alpha[i + 1]
        added = (variance - kept**2 * before).clamp(min=0)
        s2 = (1 - self.v_posterior) * added * before / variance + self.v_posterior * added
        return grid.alpha[i + 1] * added / variance, kept * before / variance, s2
