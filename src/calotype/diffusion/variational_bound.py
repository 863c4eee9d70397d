"""The weights with which errors at single times enter the variational bound on the log-likelihood."""

import functools
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion.prediction import Prediction, x0_error
from calotype.diffusion.schedule.table import Table

BoundFormula = Literal["variational_bound", "alpha_ratio"]


@functools.lru_cache(maxsize=64)
def bound_weights(
    schedule: Table,
    prediction: Prediction,
    *,
    v_posterior: float = 0.0,
    formula: BoundFormula = "variational_bound",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Float[Tensor, " timesteps"]:
    """Return the factor of the squared error of a network's output at every t of the table, per element.

    The step from x_t to x_(t-1) is compared with the posterior q(x_(t-1) | x_t, x_0), in whose mean x_0 has the factor
    c = alpha_(t-1) beta / sigma^2, at the variance s^2 = (1 - v) posterior variance + v beta: c^2 / (2 s^2) for errors
    of x_0, and what follows from it for other predictions: beta^2 / (2 s^2 (1 - beta) sigma^2) for eps (Eq. 12,
    arXiv:2006.11239). At t = 0, where the posterior has no variance, it is the weight of t = 1.

    ``formula="alpha_ratio"`` is alpha / (2 (1 + sigma^2)), which the reference has for predictions of x_0. Every
    quantity is rounded to ``dtype`` before it is used, as the reference's buffers are to float32.
    """
    beta = schedule.betas()
    alpha_bar = torch.cumprod(1 - beta, dim=0)
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    variance = (1 - v_posterior) * beta * (1 - before) / (1 - alpha_bar) + v_posterior * beta
    beta, before, alpha_bar, variance = (each.to(dtype) for each in (beta, before, alpha_bar, variance))
    if formula == "alpha_ratio":
        weights = 0.5 * alpha_bar.sqrt() / (2 - alpha_bar)
    else:
        level = alpha_bar.sqrt().view(-1, 1, 1, 1), (1 - alpha_bar).sqrt().view(-1, 1, 1, 1)
        of_x0 = before.sqrt() * beta / (1 - alpha_bar)
        weights = of_x0.square() / (2 * variance) * x0_error(prediction, *level).square().flatten()
    return torch.cat([weights[1:2], weights[1:]]).to(device)
