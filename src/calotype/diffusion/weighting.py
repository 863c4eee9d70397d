"""How much an error counts at each level of noise."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Real
from torch import Tensor

from calotype.diffusion.prediction import Prediction, eps_error, x0_error
from calotype.diffusion.schedule import NoiseSchedule
from calotype.diffusion.schedule.base import in_type_of
from calotype.diffusion.times import TimeSampling
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class SimpleWeighting(Config):
    """Every error of the network's output counts alike, whatever it predicts (Eq. 14, arXiv:2006.11239)."""

    kind: Literal["simple"] = "simple"


@dataclass(frozen=True, kw_only=True)
class MinSNRWeighting(Config):
    """min(SNR, gamma) for x_0 (Sec. 3.4, arXiv:2303.09556).

    That is min(SNR, gamma) / SNR for eps and min(SNR, gamma) / (SNR + 1) for v.
    """

    gamma: float = 5.0
    kind: Literal["min_snr"] = "min_snr"

    def __post_init__(self) -> None:
        _check_positive(gamma=self.gamma)


@dataclass(frozen=True, kw_only=True)
class P2Weighting(Config):
    """1 / (k + SNR)^gamma for eps: what can be seen counts more than the last details (arXiv:2204.00227)."""

    k: float = 1.0
    gamma: float = 1.0
    kind: Literal["p2"] = "p2"

    def __post_init__(self) -> None:
        _check_positive(k=self.k, gamma=self.gamma)


@dataclass(frozen=True, kw_only=True)
class EDMWeighting(Config):
    """SNR + 1 / sigma_data^2 for x_0 (Table 1, arXiv:2206.00364); for ``sigma_data`` 1 that is 1 for v."""

    sigma_data: float = 1.0
    kind: Literal["edm"] = "edm"

    def __post_init__(self) -> None:
        _check_positive(sigma_data=self.sigma_data)


@dataclass(frozen=True, kw_only=True)
class ELBOWeighting(Config):
    """1/2 for eps and unit of log SNR: the mean loss is the bound's diffusion term per element, in nats.

    The variational bound in continuous time (arXiv:2107.00630): -1/2 d(log SNR)/dt for eps, divided by the density with
    which times are drawn. It is the same bound whatever the schedule and the times. Weights, which have no
    limits there, are held beyond ``t_min`` and as near to pure noise.
    """

    kind: Literal["elbo"] = "elbo"


Weighting = SimpleWeighting | MinSNRWeighting | P2Weighting | EDMWeighting | ELBOWeighting


def error_weights(
    weighting: Weighting,
    prediction: Prediction,
    t: Real[Tensor, " b"],
    schedule: NoiseSchedule,
    times: TimeSampling,
) -> Float[Tensor, " b"]:
    """Return the factor of the squared error of a network's output at ``t``, which ``times`` has drawn.

    All but the simple one weigh what an error of the output does to x_0 and eps, so that they mean the same for every
    prediction. Squared, the two are SNR apart: written with both, weights are finite at both ends of a flow.
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    of_x0, of_eps = (error(prediction, alpha, sigma).square() for error in (x0_error, eps_error))
    match weighting:
        case SimpleWeighting():
            return torch.ones_like(alpha)
        case MinSNRWeighting(gamma=gamma):
            return torch.minimum(of_eps, gamma * of_x0)
        case P2Weighting(k=k, gamma=gamma):
            return of_eps / (k + (alpha / sigma).square()) ** gamma
        case EDMWeighting(sigma_data=sigma_data):
            return of_eps + of_x0 / sigma_data**2
        case ELBOWeighting():
            inside = t.double().clamp(*_ends(schedule))
            error = eps_error(prediction, schedule.alpha(inside), schedule.sigma(inside))
            return in_type_of(t, error.square() / (2 * times.log_snr_density(inside, schedule)))


def _ends(schedule: NoiseSchedule) -> tuple[float, float]:
    """Return ``t_min`` and the time of as much noise as there is image at ``t_min``, if the schedule goes so far."""
    low = schedule.t_min
    return low, float(schedule.time(-schedule.log_snr(low)))


def _check_positive(**fields: float) -> None:
    for name, value in fields.items():
        if value <= 0:
            raise ValueError(f"{name} must be above 0, not {value}")
