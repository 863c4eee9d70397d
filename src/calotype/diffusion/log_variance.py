"""How hard each time is, learned along with the network."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calotype.diffusion.schedule import NoiseSchedule
from calotype.diffusion.schedule.table import Table
from calotype.utils.config import Config
from calotype.utils.seeds import generator


@dataclass(frozen=True, kw_only=True)
class LogVarianceConfig(Config):
    """A log-variance for every t of a table, ``init`` before training."""

    init: float = 0.0
    kind: Literal["table"] = "table"

    def build(self, schedule: NoiseSchedule) -> "LogVariance":
        """Make the parameters for ``schedule``, a table."""
        assert isinstance(schedule, Table)
        return LogVariance(schedule.timesteps, self.init)


@dataclass(frozen=True, kw_only=True)
class FourierLogVarianceConfig(Config):
    """A log-variance as a smooth function of any schedule's time, ``init`` before training.

    A linear layer on ``features`` random waves of the time (u of Eq. 14, arXiv:2312.02696).
    """

    init: float = 0.0
    features: int = 128
    kind: Literal["fourier"] = "fourier"

    def __post_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features must be at least 1, not {self.features}")

    def build(self, schedule: NoiseSchedule) -> "FourierLogVariance":
        """Make the parameters for times of ``schedule``."""
        return FourierLogVariance(schedule, self.features, self.init)


class LogVariance(nn.Module):
    """One log-variance per time: ``error / exp(logvar_t) + logvar_t`` is least where exp(logvar_t) is the mean error.

    The only key of the state dict is ``logvar``, as in the reference's checkpoints.
    """

    def __init__(self, timesteps: int, init: float = 0.0) -> None:
        super().__init__()
        self.logvar = nn.Parameter(torch.full((timesteps,), init))

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the log-variances at the table's indices ``t``."""
        return self.logvar[t.long()]

    def mean(self) -> Float[Tensor, ""]:
        """Return the mean over all times."""
        return self.logvar.detach().mean()


class FourierLogVariance(nn.Module):
    """A sum of cos(2 pi (2 f u + phase)), f normal: waves of a few periods over positions u = 0 .. 1 in the schedule.

    Written out in the weights' precision, whatever autocast would make of a layer.
    """

    def __init__(self, schedule: NoiseSchedule, features: int, init: float = 0.0) -> None:
        super().__init__()
        self.schedule = schedule
        draw = generator("log-variance features", features)
        self.register_buffer("frequency", torch.randn(features, generator=draw))
        self.register_buffer("phase", torch.rand(features, generator=draw))
        self.weight = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.tensor(init))

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the log-variances at the times ``t``."""
        u = self.schedule.training_position(t.double()).to(self.weight)
        turns = 2 * u[:, None] * self.get_buffer("frequency") + self.get_buffer("phase")
        waves = math.sqrt(2) * torch.cos(2 * math.pi * turns)
        return (waves * self.weight).sum(dim=1) + self.bias

    @torch.no_grad()
    def mean(self) -> Float[Tensor, ""]:
        """Return the mean over a hundred times."""
        u = torch.linspace(0.005, 0.995, 100, dtype=torch.float64, device=self.weight.device)
        mean: Tensor = self(self.schedule.training_time(u)).mean()
        return mean
