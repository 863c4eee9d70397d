"""What diffusion training minimises."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from calotype.diffusion.log_variance import LogVarianceConfig
from calotype.diffusion.prediction import Prediction, target, x0_error
from calotype.diffusion.schedule import NoiseSchedule
from calotype.diffusion.schedule.table import Table
from calotype.diffusion.variational_bound import BoundFormula, bound_weights
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


@dataclass(frozen=True, eq=False)
class LossTerms:
    """What an objective finds, for each image of a batch.

    ``total`` is to be minimised, ``simple`` the plain error. ``gamma`` is the error under the learned log-variance and
    ``vlb`` the error weighted as in the variational bound; each is None where it does not apply.
    """

    total: Float[Tensor, " b"]
    simple: Float[Tensor, " b"]
    gamma: Float[Tensor, " b"] | None
    vlb: Float[Tensor, " b"] | None

    def logs(self) -> dict[str, Tensor]:
        """Return the means over the batch by the reference's names, without their graphs."""
        terms = {"loss": self.total, "loss_simple": self.simple, "loss_gamma": self.gamma, "loss_vlb": self.vlb}
        return {name: term.detach().mean() for name, term in terms.items() if term is not None}


@dataclass(frozen=True, kw_only=True)
class Objective(Config):
    """A prediction, the error it is judged by, the times it is trained at and the weight of each.

    What is minimised is ``simple_weight`` times the error, plus ``elbo_weight`` times the error as it enters the
    variational bound (``diffusion/variational_bound.py``; ``v_posterior`` and ``elbo_formula`` are explained there).
    ``log_variance`` puts ``error / exp(logvar_t) + logvar_t`` in the place of the error, logvar being learned.
    Both need a schedule with a table.

    ``min_snr`` counts the error of x_0 min(SNR, gamma) times, whatever is predicted (Sec. 3.4, arXiv:2303.09556): for
    eps that is the weight min(SNR, gamma) / SNR, for v min(SNR, gamma) / (SNR + 1), for x_0 min(SNR, gamma).
    """

    prediction: Prediction = "eps"
    loss: Literal["l2", "l1"] = "l2"
    times: TimeSampling = field(default_factory=UniformTimes)
    weighting: Literal["none", "min_snr"] = "none"
    min_snr_gamma: float = 5.0
    simple_weight: float = 1.0
    elbo_weight: float = 0.0
    elbo_formula: BoundFormula = "variational_bound"
    v_posterior: float = 0.0
    log_variance: LogVarianceConfig | None = None

    def __post_init__(self) -> None:
        if self.min_snr_gamma <= 0:
            raise ValueError(f"min_snr_gamma must be above 0, not {self.min_snr_gamma}")
        for name in ("simple_weight", "elbo_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.v_posterior <= 1:
            raise ValueError(f"v_posterior must be between 0 and 1, not {self.v_posterior}")
        if self.weighting == "min_snr" and self.loss != "l2":
            raise ValueError(f"weighting 'min_snr' weighs squares: loss must be 'l2', not {self.loss!r}")
        if self.elbo_formula == "alpha_ratio" and self.prediction != "x0":
            raise ValueError(f"elbo_formula 'alpha_ratio' is for prediction 'x0', not {self.prediction!r}")

    def check(self, schedule: NoiseSchedule) -> None:
        """Raise a ``ValueError`` where the schedule lacks the table that this objective needs."""
        for name in ("elbo_weight", "log_variance"):
            if getattr(self, name) and not isinstance(schedule, Table):
                raise ValueError(f"{name} needs a schedule with a table of betas, not {type(schedule).__name__}")

    def terms(
        self,
        output: Float[Tensor, "b c h w"],
        x0: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b"],
        schedule: NoiseSchedule,
        logvar: Float[Tensor, " b"] | None = None,
    ) -> LossTerms:
        """Judge a network's ``output`` at ``q_sample(x0, noise, t, schedule)``, image by image.

        The error is the mean over C, H, W of the square (``l2``) or absolute value (``l1``) of the difference from the
        target. ``logvar`` is ``LogVariance(t)``, None where none is learned.
        """
        self.check(schedule)
        alpha, sigma = schedule.marginal(t, x0)
        difference = output - target(self.prediction, x0, noise, alpha, sigma)
        simple = (difference.square() if self.loss == "l2" else difference.abs()).mean(dim=(1, 2, 3))
        weighted = simple
        if self.weighting == "min_snr":
            snr = (alpha / sigma).square()
            weight = snr.clamp(max=self.min_snr_gamma) * x0_error(self.prediction, alpha, sigma).square()
            weighted = weight.flatten() * simple
        gamma = None if logvar is None else weighted / logvar.exp() + logvar
        vlb = self._bound_weight(t, schedule, x0) * simple if isinstance(schedule, Table) else None
        total = self.simple_weight * (weighted if gamma is None else gamma)
        if self.elbo_weight and vlb is not None:
            total = total + self.elbo_weight * vlb
        return LossTerms(total, simple, gamma, vlb)

    def _bound_weight(self, t: Tensor, schedule: Table, x0: Tensor) -> Tensor:
        options = {"v_posterior": self.v_posterior, "formula": self.elbo_formula}
        weights = bound_weights(schedule, self.prediction, **options, dtype=x0.dtype, device=x0.device)
        return weights[t.long()]


def q_sample(
    x0: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    t: Float[Tensor, ""] | Float[Tensor, " b"],
    schedule: NoiseSchedule,
) -> Float[Tensor, "b c h w"]:
    """Draw from q(x_t | x_0): alpha x_0 + sigma noise (Eq. 4, arXiv:2006.11239)."""
    alpha, sigma = schedule.marginal(t, x0)
    return alpha * x0 + sigma * noise
