import math
from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.diffusion import DDIM, DDPM, Betas, Cosine, Linear, ScaledLinear, Sqrt, q_sample
from calotype.diffusion.prediction import estimate
from calotype.diffusion.schedule.table import Table
from calotype.diffusion.variational_bound import bound_weights
from calotype.models.distributions import normal_kl
from kinds import kind

NAMES = {"linear": ScaledLinear, "cosine": Cosine, "sqrt_linear": Linear, "sqrt": Sqrt}
SPACINGS = {"uniform": "reference", "quad": "reference_quad"}
BOUNDS = {"eps": "variational_bound", "x0": "alpha_ratio"}


def schedule_of(config: dict[str, Any], linear_start: float = 1e-4, linear_end: float = 2e-2) -> Table:
    """The schedule that arguments of the reference's models describe."""
    if config.get("given_betas") is not None:
        return Betas(values=tuple(config["given_betas"]))
    name, timesteps = config.get("beta_schedule", "linear"), config.get("timesteps", 1000)
    if name == "cosine":
        return Cosine(timesteps=timesteps, offset=config.get("cosine_s", 0.008))
    ends = config.get("linear_start", linear_start), config.get("linear_end", linear_end)
    return NAMES[name](timesteps=timesteps, beta_start=ends[0], beta_end=ends[1])


@kind("schedules_beta")
def betas(golden: Golden) -> dict[str, Tensor]:
    found = {}
    for output in golden.outputs:
        name, timesteps = output.removesuffix("_f64").rsplit("_", 1)
        found[output] = schedule_of(golden.config | {"beta_schedule": name, "timesteps": int(timesteps)}).betas()
    return found


@kind("ddim_parameters")
def ddim_parameters(golden: Golden) -> dict[str, Tensor]:
    products = golden.inputs["alphas_cumprod"].double()
    alphas = products / torch.cat([torch.ones(1), products[:-1]])
    schedule, found = Betas(values=tuple((1 - alphas).tolist())), {}
    for output in golden.outputs:
        rest, _, eta = output.removesuffix("_f64").partition("_eta")
        quantity, method, steps = rest.rsplit("_", 2)
        grid = schedule.grid(int(steps), SPACINGS[method])
        values = {"timesteps": grid.t[:-1], "alphas": grid.alpha[:-1] ** 2, "alphas_prev": grid.alpha[1:] ** 2}
        if quantity == "sigmas":
            solver = DDIM(eta=float(eta))
            values["sigmas"] = torch.stack([solver.deviation(grid, i) for i in range(grid.steps)])
        found[output] = values[quantity].flip(0)
    return found


@kind("ddpm_buffers")
def ddpm_buffers(golden: Golden) -> dict[str, Tensor]:
    config, schedule = golden.config, schedule_of(golden.config)
    v, prediction = config.get("v_posterior", 0.0), config.get("parameterization", "eps")
    grid, solver = schedule.grid(schedule.timesteps), DDPM(v_posterior=v)
    steps = zip(*(solver.posterior(grid, i) for i in reversed(range(grid.steps))), strict=True)
    of_x0, of_x, variance = (torch.stack(values) for values in steps)
    alpha, sigma, before = grid.alpha[:-1].flip(0), grid.sigma[:-1].flip(0), grid.alpha[1:].flip(0)
    return {
        "betas": schedule.betas(),
        "alphas_cumprod": alpha**2,
        "alphas_cumprod_prev": before**2,
        "sqrt_alphas_cumprod": alpha,
        "sqrt_one_minus_alphas_cumprod": sigma,
        "log_one_minus_alphas_cumprod": 2 * sigma.log(),
        "sqrt_recip_alphas_cumprod": 1 / alpha,
        "sqrt_recipm1_alphas_cumprod": sigma / alpha,
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": of_x0,
        "posterior_mean_coef2": of_x,
        "lvlb_weights": bound_weights(
            schedule, prediction, v_posterior=v, formula=BOUNDS[prediction], dtype=torch.float32
        ),
    }


@kind("ddpm_q_functions")
def q_functions(golden: Golden) -> dict[str, Tensor]:
    given, schedule = golden.inputs, schedule_of(golden.config)
    later = schedule_of(golden.config, 0.0015, 0.0195)  # the reference's class for predict_eps and prior_bpd
    x0, x_t, t = given["x0"], given["xt"], given["t"].double()
    (alpha, sigma), level = schedule.marginal(t, x0), later.marginal(t, x0)
    end = later.marginal(torch.full_like(t, later.t_max), x0)
    grid, solver = schedule.grid(schedule.timesteps), DDPM(v_posterior=golden.config.get("v_posterior", 0.0))
    steps = zip(*(solver.posterior(grid, grid.steps - 1 - i) for i in given["t"].tolist()), strict=True)
    of_x0, of_x, variance = (torch.stack(values).view(-1, 1, 1, 1) for values in steps)
    return {
        "q_sample": q_sample(x0, given["noise"], t, schedule),
        "q_mean": alpha * x0,
        "q_var": sigma**2,
        "q_logvar": 2 * sigma.log(),
        "predict_start": estimate("eps", given["noise"], x_t, alpha, sigma).x0,
        "post_mean": of_x0 * x0 + of_x * x_t,
        "post_var": variance,
        "post_logvar": variance.clamp(min=1e-20).log(),
        "predict_eps": estimate("x0", x0, x_t, *level).eps,
        "prior_bpd": normal_kl(end[0] * x0, 2 * end[1].log(), 0.0, 0.0).mean(dim=(1, 2, 3)) / math.log(2),
    }
