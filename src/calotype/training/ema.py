"""Moving averages of weights."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from calotype.utils.config import Config


class _Profile(Config, ABC):
    @abstractmethod
    def decay_at(self, step: int) -> float:
        """Return what the old average keeps at step ``step`` = 1, 2, ..."""


@dataclass(frozen=True, kw_only=True)
class PowerFunctionEMA(_Profile):
    """Power-function average (Section 3.1, arXiv:2312.02696).

    At step k the old average keeps ``(1 - 1/k)^(gamma + 1)``: its length is a fixed share of training, however long.
    gamma 6.94 is a relative width of 0.10, gamma 16.97 one of 0.05 (``gamma_of``).
    """

    gamma: float = 6.94
    kind: Literal["power_function"] = "power_function"

    def __post_init__(self) -> None:
        if not self.gamma > -1:
            raise ValueError(f"gamma must be above -1, not {self.gamma}")

    def decay_at(self, step: int) -> float:
        """Return what the old average keeps at step ``step`` = 1, 2, ...; 0 at the first."""
        return (1 - 1 / step) ** (self.gamma + 1)


def gamma_of(width: float) -> float:
    """Return the gamma of a power function of relative ``width``, the standard deviation of its weights over the run.

    ``width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))`` (Section 3.1, arXiv:2312.02696), a cubic with one root above
    0 for widths between 0 and ``1 / sqrt(12)``.

    Raises:
        ValueError: the width is not between those.
    """
    if not 0 < width < 12**-0.5:
        raise ValueError(f"width must be above 0 and below 0.288, not {width}")
    t = width**-2
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


@dataclass(frozen=True, kw_only=True)
class _Exponential(_Profile):
    decay: float = 0.9999

    def __post_init__(self) -> None:
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, not {self.decay}")


@dataclass(frozen=True, kw_only=True)
class WarmUpEMA(_Exponential):
    """Exponential average that forgets its beginning: at step k it keeps ``min(decay, (1 + k) / (10 + k))``.

    The reference's ``LitEma``.
    """

    kind: Literal["warm_up"] = "warm_up"

    def decay_at(self, step: int) -> float:
        """Return what the old average keeps at step ``step`` = 1, 2, ..."""
        return min(self.decay, (1 + step) / (10 + step))


@dataclass(frozen=True, kw_only=True)
class ConstantEMA(_Exponential):
    """Exponential average that keeps ``decay`` at every step; it starts at the initial weights."""

    kind: Literal["constant"] = "constant"

    def decay_at(self, step: int) -> float:  # noqa: ARG002
        """Return what the old average keeps at step ``step`` = 1, 2, ..."""
        return self.decay


# The first is what settings without a kind are read as: the power function was once the only one.
EMAConfig = PowerFunctionEMA | WarmUpEMA | ConstantEMA


class MovingAverage:
    """Averaged copies of modules, in evaluation mode, ready to be used.

    ``tracks`` are further averages of the same modules by power functions of these relative widths; those of any other
    width can be put together from their snapshots (``training/ema_snapshots.py``).
    """

    def __init__(self, modules: Mapping[str, nn.Module], config: EMAConfig, *, tracks: Sequence[float] = ()) -> None:
        self.config, self.source = config, dict(modules)
        self.modules = {name: copy.deepcopy(module).eval().requires_grad_(False) for name, module in modules.items()}
        self.tracks = {width: MovingAverage(modules, PowerFunctionEMA(gamma=gamma_of(width))) for width in tracks}

    @property
    def track_modules(self) -> dict[str, nn.Module]:
        """The averaged modules of the tracks as ``WIDTH/NAME``."""
        tracks = self.tracks.items()
        return {f"{width}/{name}": module for width, track in tracks for name, module in track.modules.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the current weights; ``step`` counts updates from 1."""
        for name, module in self.source.items():
            averaged = self.modules[name]
            targets: list[Tensor] = list(averaged.parameters())
            weights: list[Tensor] = list(module.parameters())
            if targets:
                torch._foreach_lerp_(targets, weights, 1 - self.config.decay_at(step))
            for target, buffer in zip(averaged.buffers(), module.buffers(), strict=True):
                target.copy_(buffer)
        for track in self.tracks.values():
            track.update(step)
