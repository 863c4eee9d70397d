"""The noise levels of EDM."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from calotype.diffusion.schedule.base import NoiseSchedule


@dataclass(frozen=True, kw_only=True)
class EDM(NoiseSchedule):
    """Times that are noise levels: t = sigma / alpha, from ``sigma_min`` to ``sigma_max`` (arXiv:2206.00364).

    EDM's x_0 + t eps is divided by its deviation for images of variance 1: alpha = 1 / sqrt(1 + t^2), sigma = t alpha.
    With that, and sigma_data = 1, its preconditioned denoiser (Eq. 7, Table 1)

        D(x_0 + t eps) = c_skip (x_0 + t eps) + c_out F(c_in (x_0 + t eps), ln(t) / 4) = alpha x_t + sigma F(x_t, ..)

    is the prediction ``v`` of a network that says v = -F; so is its loss, whose weight leaves F a plain square.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    kind: Literal["edm"] = "edm"

    t_clean = 0.0
    usual_spacing = "karras"

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < float("inf"):
            ends = f"{self.sigma_min}, {self.sigma_max}"
            raise ValueError(f"sigma_min, sigma_max must satisfy 0 < sigma_min < sigma_max, not {ends}")

    @property
    def t_max(self) -> float:
        """The highest noise level."""
        return self.sigma_max

    @property
    def t_min(self) -> float:
        """The lowest noise level."""
        return self.sigma_min

    def _marginal(self, t: Float64[Tensor, "*s"]) -> tuple[Float64[Tensor, "*s"], Float64[Tensor, "*s"]]:
        alpha = (1 + t**2).rsqrt()
        return alpha, t * alpha

    def time(self, log_snr: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the time at which the log SNR is ``log_snr``."""
        return torch.exp(-log_snr.double() / 2).to(log_snr.dtype)

    def network_time(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return ln(t) / 4, EDM's c_noise."""
        return t.log() / 4

    def training_time(self, u: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return sigma_min^(1 - u) sigma_max^u: equal weight to every log SNR."""
        return self.sigma_min ** (1 - u) * self.sigma_max**u

    def training_position(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return where ln(t) lies between those of the ends."""
        return (t / self.sigma_min).log() / math.log(self.sigma_max / self.sigma_min)
