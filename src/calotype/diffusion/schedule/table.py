"""Schedules that are tables of betas, the variances of single noising steps: DDPM's kind."""

import functools
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from calotype.diffusion.grid import Spacing
from calotype.diffusion.schedule.base import NoiseSchedule

Outside = Literal["hold", "extend"]


@dataclass(frozen=True, kw_only=True)
class Table(NoiseSchedule):
    """A variance-preserving table of ``timesteps`` entries, t = 0..timesteps-1, with log alpha linear in between.

    It is exact at integers. Times outside the table are those of its ends; where ``outside="extend"`` is offered, the
    line through the last two entries goes on instead, as in DPM-Solver's code.
    """

    timesteps: int = 1000

    t_min = 0.0
    t_clean = -1.0

    def __post_init__(self) -> None:
        if self.timesteps < 2:
            raise ValueError(f"timesteps must be at least 2, not {self.timesteps}")

    @property
    def t_max(self) -> float:
        """The last index of the table."""
        return self.timesteps - 1.0

    @abstractmethod
    def betas(self) -> Float64[Tensor, " timesteps"]:
        """Return the variances of the single noising steps."""

    def log_alpha(self, t: Float[Tensor, "*s"], outside: Outside = "hold") -> Float[Tensor, "*s"]:
        """Return the logarithm of alpha."""
        table, time = _log_alphas(self, t.device), t.double()
        time = time.clamp(0, self.t_max) if outside == "hold" else time
        below = time.long().clamp(0, self.timesteps - 2)
        return torch.lerp(table[below], table[below + 1], time - below).to(t.dtype)

    def _marginal(self, t: Float64[Tensor, "*s"]) -> tuple[Float64[Tensor, "*s"], Float64[Tensor, "*s"]]:
        log_alpha = self.log_alpha(t)
        return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()

    def time(self, log_snr: Float[Tensor, "*s"], outside: Outside = "hold") -> Float[Tensor, "*s"]:
        """Return the time at which the log SNR is ``log_snr``."""
        t = self._time_of(torch.nn.functional.logsigmoid(log_snr.double()) / 2)
        return (t.clamp(0, self.t_max) if outside == "hold" else t).to(log_snr.dtype)

    def _time_of(self, log_alpha: Float64[Tensor, "*s"]) -> Float64[Tensor, "*s"]:
        table = _log_alphas(self, log_alpha.device)
        below = (torch.searchsorted(-table, -log_alpha, right=True) - 1).clamp(0, self.timesteps - 2)
        return below + (table[below] - log_alpha) / (table[below] - table[below + 1])

    def network_time(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return ``t``: the reference's networks are shown the index."""
        return t

    def training_time(self, u: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the index floor(u * timesteps): networks of a table are trained at its entries."""
        return (u * self.timesteps).floor().clamp(0, self.t_max)

    def training_position(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return (t + 1/2) / timesteps, the middle of the interval that becomes the index ``t``."""
        return (t + 0.5) / self.timesteps

    def _reference_times(self, steps: int, spacing: Spacing) -> Float64[Tensor, " n"]:
        """``make_ddim_timesteps`` of CompVis/latent-diffusion, noisiest first, and its end at t = 0."""
        if spacing == "reference_quad":
            end = math.sqrt(0.8 * self.timesteps)
            roots = [i * (end / max(1, steps - 1)) for i in range(steps)]  # rounded as numpy does: int() cuts them
            roots[-1] = end if steps > 1 else 0.0
            times = [int(root**2) + 1 for root in roots]
        else:
            times = [i + 1 for i in range(0, self.timesteps, max(1, self.timesteps // steps))]
        if times[-1] > self.t_max:
            raise ValueError(f"steps: the reference cannot take {steps}, its grid leaves the table; take 'trailing'")
        return torch.tensor([*reversed(times), 0], dtype=torch.float64, device="cpu")


@functools.lru_cache(maxsize=64)
def _log_alphas(schedule: Table, device: torch.device) -> Float64[Tensor, " timesteps"]:
    return (torch.log1p(-schedule.betas()).cumsum(0) / 2).to(device)


@dataclass(frozen=True, kw_only=True)
class _Ramp(Table):
    beta_start: float = 1e-4
    beta_end: float = 2e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta_start <= self.beta_end < 1:
            ends = f"{self.beta_start}, {self.beta_end}"
            raise ValueError(f"beta_start, beta_end must satisfy 0 < beta_start <= beta_end < 1, not {ends}")

    def _line(self, start: float, end: float) -> Float64[Tensor, " timesteps"]:
        return torch.linspace(start, end, self.timesteps, dtype=torch.float64, device="cpu")


@dataclass(frozen=True, kw_only=True)
class Linear(_Ramp):
    """Betas linear in t (Sec. 4, arXiv:2006.11239). The reference calls this one ``sqrt_linear``."""

    kind: Literal["linear"] = "linear"

    def betas(self) -> Float64[Tensor, " timesteps"]:
        """Return the variances of the single noising steps."""
        return self._line(self.beta_start, self.beta_end)


@dataclass(frozen=True, kw_only=True)
class ScaledLinear(_Ramp):
    """Square roots of the betas linear in t: what the reference calls ``linear`` and all its models use."""

    kind: Literal["scaled_linear"] = "scaled_linear"

    def betas(self) -> Float64[Tensor, " timesteps"]:
        """Return the variances of the single noising steps."""
        return self._line(math.sqrt(self.beta_start), math.sqrt(self.beta_end)) ** 2


@dataclass(frozen=True, kw_only=True)
class Sqrt(_Ramp):
    """Squares of the betas linear in t: the reference's ``sqrt``."""

    kind: Literal["sqrt"] = "sqrt"

    def betas(self) -> Float64[Tensor, " timesteps"]:
        """Return the variances of the single noising steps; its ends are the square roots of the two settings."""
        return self._line(self.beta_start, self.beta_end).sqrt()


@dataclass(frozen=True, kw_only=True)
class Cosine(Table):
    """alpha^2 follows cos^2((t / T + offset) / (1 + offset) pi / 2), betas at most 0.999 (Eq. 17, arXiv:2102.09672)."""

    offset: float = 0.008
    kind: Literal["cosine"] = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.offset < 0:
            raise ValueError(f"offset must be at least 0, not {self.offset}")

    def betas(self) -> Float64[Tensor, " timesteps"]:
        """Return the variances of the single noising steps."""
        u = torch.arange(self.timesteps + 1, dtype=torch.float64, device="cpu") / self.timesteps
        alpha_bar = ((u + self.offset) / (1 + self.offset) * math.pi / 2).cos() ** 2
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(0, 0.999)


@dataclass(frozen=True, kw_only=True)
class Betas(Table):
    """Betas that are given one by one: the reference's ``given_betas``."""

    values: Sequence[float]
    timesteps: int = field(init=False)
    kind: Literal["betas"] = "betas"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "timesteps", len(self.values))
        super().__post_init__()
        if not all(0 < value < 1 for value in self.values):
            raise ValueError("values must lie between 0 and 1")

    def betas(self) -> Float64[Tensor, " timesteps"]:
        """Return the variances of the single noising steps."""
        return torch.tensor(self.values, dtype=torch.float64, device="cpu")
