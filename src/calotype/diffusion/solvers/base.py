"""What every solver is: one step, without memory of its own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from calotype.diffusion.denoiser import Denoise
from calotype.diffusion.grid import Grid
from calotype.diffusion.noise import NoiseSource
from calotype.utils.config import Config


@dataclass(frozen=True, eq=False)
class State:
    """Where a sampling run is: ``x`` at time ``t``, made with the clean image ``x0`` (x itself before the first step).

    ``history`` is what the solver remembers of the steps before, in an order of its own.
    """

    x: Float[Tensor, "b c h w"]
    x0: Float[Tensor, "b c h w"]
    t: Float[Tensor, ""]
    history: tuple[Tensor, ...] = ()


class Solver(Config, ABC):
    """An update rule. It is a configuration: frozen, without state, equal when its settings are."""

    @abstractmethod
    def step(self, denoise: Denoise, state: State, grid: Grid, i: int, noise: NoiseSource | None) -> State:
        """Go from node ``i`` of the grid, where ``state.x`` is, to node ``i + 1``."""

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise, so that no walk leads back."""
        return False

    def evaluations(self, steps: int) -> int:
        """Return how often ``steps`` steps that end at a clean node call the denoiser."""
        return steps
