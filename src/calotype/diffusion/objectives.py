"""What diffusion training minimises."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from calotype.diffusion.prediction import Prediction, target, x0_error
from calotype.diffusion.schedule import NoiseSchedule
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class UniformTimes(Config):
    """Every time is trained equally often."""

    kind: Literal["uniform"] = "uniform"

    def sample(self, n: int, generator: torch.Generator, schedule: NoiseSchedule) -> Float64[Tensor, " n"]:
        """Draw ``n`` times of the schedule on the generator's device."""
        u = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
        return schedule.training_time(u)


@dataclass(frozen=True, kw_only=True)
class LogitNormalTimes(Config):
    """Times in the middle are trained more often: logit(u) is normal (Sec. 3.1, arXiv:2403.03206)."""

    mean: float = 0.0
    std: float = 1.0
    kind: Literal["logit_normal"] = "logit_normal"

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std must be above 0, not {self.std}")

    def sample(self, n: int, generator: torch.Generator, schedule: NoiseSchedule) -> Float64[Tensor, " n"]:
        """Draw ``n`` times of the schedule on the generator's device."""
        normal = torch.randn(n, generator=generator, dtype=torch.float64, device=generator.device)
        return schedule.training_time(torch.sigmoid(self.mean + self.std * normal))


TimeSampling = UniformTimes | LogitNormalTimes


@dataclass(frozen=True, kw_only=True)
class Objective(Config):
    """A prediction, the times it is trained at and the weight of each.

    ``min_snr`` counts the error of x_0 min(SNR, gamma) times, whatever is predicted (Sec. 3.4, arXiv:2303.09556): for
    eps that is the weight min(SNR, gamma) / SNR, for v min(SNR, gamma) / (SNR + 1), for x_0 min(SNR, gamma).
    """

    prediction: Prediction = "eps"
    times: TimeSampling = field(default_factory=UniformTimes)
    weighting: Literal["none", "min_snr"] = "none"
    min_snr_gamma: float = 5.0

    def __post_init__(self) -> None:
        if self.min_snr_gamma <= 0:
            raise ValueError(f"min_snr_gamma must be above 0, not {self.min_snr_gamma}")

    def loss(
        self,
        output: Float[Tensor, "b c h w"],
        x0: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b"],
        schedule: NoiseSchedule,
    ) -> Float[Tensor, " b"]:
        """Return the weighted error of a network's ``output`` at ``q_sample(x0, noise, t, schedule)``, for each image.

        The error is the mean square over C, H, W between the output and its target.
        """
        alpha, sigma = schedule.marginal(t, x0)
        error = (output - target(self.prediction, x0, noise, alpha, sigma)).square().mean(dim=(1, 2, 3))
        if self.weighting == "none":
            return error
        snr = (alpha / sigma).square()
        weight = snr.clamp(max=self.min_snr_gamma) * x0_error(self.prediction, alpha, sigma).square()
        return weight.flatten() * error


def q_sample(
    x0: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    t: Float[Tensor, ""] | Float[Tensor, " b"],
    schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """Draw from q(x_t | x_0): alpha x_0 + sigma noise (Eq. 4, arXiv:2006.11239)."""
    alpha, sigma = schedule.marginal(t, x0)
    return alpha * x0 + sigma * noise
