"""What diffusion training minimises."""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real
from pydantic import Field
from torch import Tensor

from calotype.diffusion.log_variance import FourierLogVarianceConfig, LogVarianceConfig
from calotype.diffusion.loss import L2Loss, Loss
from calotype.diffusion.prediction import Prediction, target
from calotype.diffusion.schedule import NoiseSchedule
from calotype.diffusion.schedule.table import Table
from calotype.diffusion.times import ImportanceTimes, TimeSampling, UniformTimes
from calotype.diffusion.variational_bound import BoundFormula, bound_weights
from calotype.diffusion.weighting import ELBOWeighting, SimpleWeighting, Weighting, error_weights
from calotype.utils.config import Config


@dataclass(frozen=True, eq=False)
class LossTerms:
    """What an objective finds, for each image of a batch.

    ``total`` is to be minimised, ``simple`` the plain error. ``gamma`` is the error under the learned log-variance,
    ``vlb`` the error weighted as in the variational bound, ``direction`` one less the cosine between velocities; each
    is None where it does not apply.
    """

    total: Float[Tensor, " b"]
    simple: Float[Tensor, " b"]
    gamma: Float[Tensor, " b"] | None = None
    vlb: Float[Tensor, " b"] | None = None
    direction: Float[Tensor, " b"] | None = None

    def times(self, weights: Float[Tensor, " b"]) -> "LossTerms":
        """Return every term times ``weights``, one for each image."""
        return replace(self, **{name: term * weights for name, term in self._present().items()})

    def logs(self) -> dict[str, Tensor]:
        """Return the means over the batch by the reference's names, without their graphs."""
        names = {"total": "loss"}
        return {names.get(name, f"loss_{name}"): term.detach().mean() for name, term in self._present().items()}

    def _present(self) -> dict[str, Tensor]:
        return {name: term for name, term in vars(self).items() if term is not None}


@dataclass(frozen=True, kw_only=True)
class Objective(Config):
    """A prediction, the loss it is judged by, the times it is trained at and the weight of each.

    What is minimised is ``simple_weight`` times the weighted loss, plus ``direction_weight`` times one less the cosine
    between the predicted and the true velocity at every position (Sec. 3.3, arXiv:2501.01423), plus ``elbo_weight``
    times the loss as it enters the variational bound of a table (``diffusion/variational_bound.py``; ``v_posterior``
    and ``elbo_formula`` are explained there). ``weighting`` is a factor of squares: what is no square sees the
    difference from the target times the root of it. ``log_variance`` puts ``loss / exp(logvar_t) + logvar_t`` in the
    place of the weighted loss, logvar being learned.
    """

    prediction: Prediction = "eps"
    loss: Annotated[Loss, Field(discriminator="kind")] = L2Loss()
    times: Annotated[TimeSampling, Field(discriminator="kind")] = UniformTimes()
    weighting: Annotated[Weighting, Field(discriminator="kind")] = SimpleWeighting()
    simple_weight: float = 1.0
    direction_weight: float = 0.0
    elbo_weight: float = 0.0
    elbo_formula: BoundFormula = "variational_bound"
    v_posterior: float = 0.0
    log_variance: Annotated[LogVarianceConfig | FourierLogVarianceConfig, Field(discriminator="kind")] | None = None

    def __post_init__(self) -> None:
        for name in ("simple_weight", "direction_weight", "elbo_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.v_posterior <= 1:
            raise ValueError(f"v_posterior must be between 0 and 1, not {self.v_posterior}")
        if self.direction_weight and self.prediction not in ("v", "flow"):
            raise ValueError(f"direction_weight needs a velocity: prediction 'v' or 'flow', not {self.prediction!r}")
        if self.elbo_formula == "alpha_ratio" and self.prediction != "x0":
            raise ValueError(f"elbo_formula 'alpha_ratio' is for prediction 'x0', not {self.prediction!r}")

    def check(self, schedule: NoiseSchedule) -> None:
        """Raise a ``ValueError`` where the schedule is none that this objective can be learned on."""
        table = isinstance(schedule, Table)
        for name, needed in {
            "elbo_weight": self.elbo_weight > 0,
            "log_variance": isinstance(self.log_variance, LogVarianceConfig),
        }.items():
            if needed and not table:
                raise ValueError(f"{name} needs a schedule with a table of betas, not {type(schedule).__name__}")
        if isinstance(schedule, Table):
            if isinstance(self.times, ImportanceTimes) and schedule.timesteps % self.times.bins:
                raise ValueError(f"bins must divide the table's {schedule.timesteps} timesteps, not {self.times.bins}")
            end = torch.tensor(schedule.t_max, dtype=torch.float64)
            if isinstance(self.weighting, ELBOWeighting) and not schedule.log_snr(end).isfinite():
                raise ValueError("weighting 'elbo' is infinite on a table that ends in pure noise; take another")

    def terms(
        self,
        output: Float[Tensor, "b c h w"],
        x0: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b c h w"],
        t: Real[Tensor, " b"],
        schedule: NoiseSchedule,
        logvar: Float[Tensor, " b"] | None = None,
    ) -> LossTerms:
        """Judge a network's ``output`` at ``q_sample(x0, noise, t, schedule)``, image by image.

        ``logvar`` is what the learned log-variance says at ``t``, None where none is learned.
        """
        self.check(schedule)
        truth = target(self.prediction, x0, noise, *schedule.marginal(t, x0))
        simple = self.loss(output - truth)
        weighted = simple
        if not isinstance(self.weighting, SimpleWeighting):
            weights = error_weights(self.weighting, self.prediction, t, schedule, self.times)
            weighted = self.loss((output - truth) * weights.sqrt().to(output).view(-1, 1, 1, 1))
        gamma = None if logvar is None else weighted / logvar.exp() + logvar
        vlb = self._bound_weight(t, schedule, x0) * simple if isinstance(schedule, Table) else None
        total = self.simple_weight * (weighted if gamma is None else gamma)
        if self.elbo_weight and vlb is not None:
            total = total + self.elbo_weight * vlb
        direction = None
        if self.direction_weight:
            direction = (1 - F.cosine_similarity(output, truth, dim=1)).mean(dim=(1, 2))
            total = total + self.direction_weight * direction
        return LossTerms(total, simple, gamma, vlb, direction)

    def _bound_weight(self, t: Tensor, schedule: Table, x0: Tensor) -> Tensor:
        options = {"v_posterior": self.v_posterior, "formula": self.elbo_formula}
        weights = bound_weights(schedule, self.prediction, **options, dtype=x0.dtype, device=x0.device)
        return weights[t.long()]


def q_sample(
    x0: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    t: Real[Tensor, ""] | Real[Tensor, " b"],
    schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """Draw from q(x_t | x_0): alpha x_0 + sigma noise (Eq. 4, arXiv:2006.11239)."""
    alpha, sigma = schedule.marginal(t, x0)
    return alpha * x0 + sigma * noise
