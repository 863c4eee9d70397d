"""The twelve tables that every checkpoint of the original holds about its noise schedule."""

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion.schedule.table import Table

BUFFERS = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)


def schedule_buffers(schedule: Table, v_posterior: float = 0.0) -> dict[str, Float[Tensor, " timesteps"]]:
    """Return the tables in float32, computed in float64.

    Those of q(x_(t-1) | x_t, x_0) are Eq. 7 of arXiv:2006.11239; the variance is ``(1 - v) posterior + v beta``.
    """
    beta = schedule.betas()
    alpha_bar = torch.cumprod(1 - beta, dim=0)
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    variance = (1 - v_posterior) * beta * (1 - before) / (1 - alpha_bar) + v_posterior * beta
    tables = (
        beta,
        alpha_bar,
        before,
        alpha_bar.sqrt(),
        (1 - alpha_bar).sqrt(),
        (1 - alpha_bar).log(),
        (1 / alpha_bar).sqrt(),
        (1 / alpha_bar - 1).sqrt(),
        variance,
        variance.clamp(min=1e-20).log(),
        beta * before.sqrt() / (1 - alpha_bar),
        (1 - before) * (1 - beta).sqrt() / (1 - alpha_bar),
    )
    return {name: table.float() for name, table in zip(BUFFERS, tables, strict=True)}
