"""Which times a network is trained at."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64, Real
from torch import Tensor

from calotype.diffusion.schedule import NoiseSchedule
from calotype.diffusion.schedule.base import in_type_of
from calotype.utils.config import Config


class _Times(Config, ABC):
    @abstractmethod
    def sample(self, n: int, generator: torch.Generator, schedule: NoiseSchedule) -> Float64[Tensor, " n"]:
        """Draw ``n`` times of the schedule on the generator's device."""

    def log_snr_density(self, t: Real[Tensor, " b"], schedule: NoiseSchedule) -> Float[Tensor, " b"]:
        """Return the density of log SNR where it is that of ``t``; a table's steps are taken for continuous."""
        with torch.enable_grad():
            time = t.detach().double().requires_grad_()
            u = schedule.training_position(time)
            slopes = (torch.autograd.grad(values.sum(), time)[0] for values in (u, schedule.log_snr(time)))
        du, dlog_snr = slopes
        return in_type_of(t, self._density(u.detach()) * du / -dlog_snr)

    def _density(self, u: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """Return the density of the position u in [0, 1), of which ``schedule.training_time`` makes a time."""
        return torch.ones_like(u)


@dataclass(frozen=True, kw_only=True)
class UniformTimes(_Times):
    """Every time is trained equally often."""

    kind: Literal["uniform"] = "uniform"

    def sample(self, n: int, generator: torch.Generator, schedule: NoiseSchedule) -> Float64[Tensor, " n"]:
        """Draw ``n`` times of the schedule on the generator's device."""
        return schedule.training_time(_uniform(n, generator))


@dataclass(frozen=True, kw_only=True)
class _NormalTimes(_Times):
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std must be above 0, not {self.std}")

    def _normal(self, n: int, generator: torch.Generator) -> Float64[Tensor, " n"]:
        draws = torch.randn(n, generator=generator, dtype=torch.float64, device=generator.device)
        return self.mean + self.std * draws

    def _normal_density(self, value: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
        scaled = (value - self.mean) / self.std
        return (-scaled.square() / 2).exp() / (self.std * math.sqrt(2 * math.pi))


@dataclass(frozen=True, kw_only=True)
class LogitNormalTimes(_NormalTimes):
    """Times in the middle are trained more often: logit(u) is normal (Sec. 3.1, arXiv:2403.03206)."""

    kind: Literal["logit_normal"] = "logit_normal"

    def sample(self, n: int, generator: torch.Generator, schedule: NoiseSchedule) -> Float64[Tensor, " n"]:
        """Draw ``n`` times of the schedule on the generator's device."""
        return schedule.training_time(torch.sigmoid(self._normal(n, generator)))

    def _density(self, u: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
        return self._normal_density(torch.logit(u)) / (u * (1 - u))


@dataclass(frozen=True, kw_only=True)
class LogNormalTimes(_NormalTimes):
    """ln(sigma / alpha) is normal: EDM's times (Table 1, arXiv:2206.00364), cut off at the schedule's ends.

    The paper's mean, -1.2, is for images of deviation 1/2. Latents have variance 1: their levels are twice as high, and
    the mean is -1.2 + ln 2.
    """

    mean: float = -0.51
    std: float = 1.2
    kind: Literal["log_normal"] = "log_normal"

    def sample(self, n: int, generator: torch.Generator, schedule: NoiseSchedule) -> Float64[Tensor, " n"]:
        """Draw ``n`` times of the schedule on the generator's device."""
        t = schedule.time(-2 * self._normal(n, generator))
        return schedule.training_time(schedule.training_position(t).clamp(0, 1))

    def log_snr_density(self, t: Real[Tensor, " b"], schedule: NoiseSchedule) -> Float[Tensor, " b"]:
        """Return the density of log SNR, inside the schedule's ends, where it is that of ``t``."""
        return in_type_of(t, self._normal_density(-schedule.log_snr(t.double()) / 2) / 2)


@dataclass(frozen=True, kw_only=True)
class ImportanceTimes(_Times):
    """Times at which the loss varies most are trained more often, and each counts less in proportion.

    A time is drawn from one of ``bins`` equal parts of the schedule, which has a probability in proportion to the root
    of the mean of its last ``history`` squared losses (Sec. 3.3, arXiv:2102.09672, which has a part for every index of
    a table), mixed with a share ``uniform`` of equal ones. Losses divided by how often their time is drawn keep the
    expectation that uniform times have. ``diffusion/importance.py`` remembers the losses; until it has ``history`` of
    every part, all are equal: this class draws as if it knew nothing.
    """

    bins: int = 100
    history: int = 10
    uniform: float = 0.001
    kind: Literal["importance"] = "importance"

    def __post_init__(self) -> None:
        for name in ("bins", "history"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.uniform <= 1:
            raise ValueError(f"uniform must be above 0 and at most 1, not {self.uniform}")

    def sample(self, n: int, generator: torch.Generator, schedule: NoiseSchedule) -> Float64[Tensor, " n"]:
        """Draw ``n`` times of the schedule, all equally often, on the generator's device."""
        return schedule.training_time(_uniform(n, generator))


TimeSampling = UniformTimes | LogitNormalTimes | LogNormalTimes | ImportanceTimes


def _uniform(n: int, generator: torch.Generator) -> Float64[Tensor, " n"]:
    return torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
