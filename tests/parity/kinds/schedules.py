import torch
from golden_file import Golden
from torch import Tensor

from calotype.diffusion import DDIM, Cosine, Linear, ScaledLinear, Sqrt
from kinds import kind

NAMES = {"linear": ScaledLinear, "cosine": Cosine, "sqrt_linear": Linear, "sqrt": Sqrt}
SPACINGS = {"uniform": "reference", "quad": "reference_quad"}


@kind("schedules_beta")
def betas(golden: Golden) -> dict[str, Tensor]:
    found = {}
    for output in golden.outputs:
        name, timesteps = output.removesuffix("_f64").rsplit("_", 1)
        ends = {"beta_start": golden.config["linear_start"], "beta_end": golden.config["linear_end"]}
        settings = {"offset": golden.config.get("cosine_s", 0.008)} if name == "cosine" else ends
        found[output] = NAMES[name](timesteps=int(timesteps), **settings).betas()
    return found


@kind("ddim_parameters")
def ddim_parameters(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    schedule = ScaledLinear(
        timesteps=config["timesteps"], beta_start=config["linear_start"], beta_end=config["linear_end"]
    )
    found = {}
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
