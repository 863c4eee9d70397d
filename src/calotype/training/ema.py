"""Moving averages of weights."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class EMAConfig(Config):
    """Power-function average (Section 3.1, arXiv:2312.02696).

    At step k the old average keeps ``(1 - 1/k)^(gamma + 1)``: its length is a fixed share of training, however long.
    gamma 6.94 is a relative width of 0.10, gamma 16.97 one of 0.05.
    """

    gamma: float = 6.94

    def decay(self, step: int) -> float:
        """Return what the old average keeps at step ``step`` = 1, 2, ...; 0 at the first."""
        return (1 - 1 / step) ** (self.gamma + 1)


class MovingAverage:
    """Averaged copies of modules, in evaluation mode, ready to be used."""

    def __init__(self, modules: Mapping[str, nn.Module], config: EMAConfig) -> None:
        self.config, self.source = config, dict(modules)
        self.modules = {name: copy.deepcopy(module).eval().requires_grad_(False) for name, module in modules.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the current weights; ``step`` counts updates from 1."""
        for name, module in self.source.items():
            averaged = self.modules[name]
            targets: list[Tensor] = list(averaged.parameters())
            weights: list[Tensor] = list(module.parameters())
            if targets:
                torch._foreach_lerp_(targets, weights, 1 - self.config.decay(step))
            for target, buffer in zip(averaged.buffers(), module.buffers(), strict=True):
                target.copy_(buffer)
