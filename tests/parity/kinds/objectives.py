"""The loss of a diffusion model at given times and noise."""

from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.diffusion import L1Loss, L2Loss, Objective, q_sample
from calotype.diffusion.log_variance import LogVariance, LogVarianceConfig
from calotype.diffusion.objectives import LossTerms
from calotype.diffusion.schedule.table import Table
from kinds import kind
from kinds.schedules import BOUNDS, schedule_of

LOSSES = {"l1": L1Loss(), "l2": L2Loss()}


@kind("p_losses")
def p_losses(golden: Golden) -> dict[str, Tensor]:
    """LatentDiffusion's, with the log-variance in it, and DDPM's, without condition and log-variance."""
    config, inputs = golden.config, golden.inputs
    objective, schedule = objective_of(config), table_of(config)
    x0, noise, t = inputs["x0"], inputs["noise"], inputs["t"].float()
    log_variance = LogVarianceConfig(init=config.get("logvar_init", 0.0)).build(schedule)
    log_variance.load_state_dict({"logvar": inputs["logvar"]})
    x_t = q_sample(x0, noise, t, schedule)
    guess = 0.3 * x_t + 0.1 * torch.sin(t / 100).view(-1, 1, 1, 1)
    shift = 0.05 * inputs["cond"].flatten(1).mean(dim=1).view(-1, 1, 1, 1) if "cond" in inputs else 0.0

    latent = objective.terms(guess + shift, x0, noise, t, schedule, log_variance(t))
    pixel = objective.terms(guess, x0, noise, t, schedule)
    loss = latent.total.mean()
    (gradient,) = torch.autograd.grad(loss, log_variance.logvar)
    return {
        "loss": loss,
        **logs_of(latent, log_variance),
        "grad_logvar": gradient,
        "ddpm_loss": pixel.total.mean(),
        **{f"ddpm_{name}": value for name, value in logs_of(pixel).items()},
    }


def objective_of(config: dict[str, Any]) -> Objective:
    """Our configuration for the constructor arguments of the reference's DDPM; its weights for x_0 have a formula."""
    prediction = config.get("parameterization", "eps")
    return Objective(
        prediction=prediction,
        loss=LOSSES[config.get("loss_type", "l2")],
        simple_weight=config.get("l_simple_weight", 1.0),
        elbo_weight=config.get("original_elbo_weight", 0.0),
        elbo_formula=BOUNDS[prediction],
        v_posterior=config.get("v_posterior", 0.0),
    )


def table_of(config: dict[str, Any]) -> Table:
    """Our schedule, with the ends that these files have where their configuration is silent."""
    return schedule_of(config, linear_start=0.0015, linear_end=0.0195)


def logs_of(terms: LossTerms, log_variance: LogVariance | None = None) -> dict[str, Tensor]:
    """The terms by the names that the reference logs them under, in training and in validation."""
    logs = {f"log.{prefix}/{name}": value for prefix in ("train", "val") for name, value in terms.logs().items()}
    return logs if log_variance is None else {**logs, "log.logvar": log_variance.logvar.detach().mean()}
