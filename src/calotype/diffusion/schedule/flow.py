"""The schedule of flow matching."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from calotype.diffusion.schedule.base import NoiseSchedule


@dataclass(frozen=True, kw_only=True)
class Flow(NoiseSchedule):
    """Straight lines from image to noise: alpha = 1 - t, sigma = t, t in [0, 1] (arXiv:2209.03003).

    A time shift (Eq. 23, arXiv:2403.03206) moves no line, only the times that are chosen on it: in training it is
    ``LogitNormalTimes(mean=log(shift))``.
    """

    kind: Literal["flow"] = "flow"

    t_max = 1.0
    t_min = 1e-3
    t_clean = 0.0

    def _marginal(self, t: Float64[Tensor, "*s"]) -> tuple[Float64[Tensor, "*s"], Float64[Tensor, "*s"]]:
        return 1 - t, t

    def time(self, log_snr: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the time at which the log SNR is ``log_snr``."""
        return torch.sigmoid(-log_snr.double() / 2).to(log_snr.dtype)

    def network_time(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return 1000 t."""
        return 1000 * t

    def training_time(self, u: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return ``u``."""
        return u

    def training_position(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return ``t``."""
        return t
