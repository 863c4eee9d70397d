from typing import Any

import pytest
import torch

from calotype.diffusion import DDIM, Estimate
from calotype.diffusion.prediction import Prediction
from calotype.diffusion.schedule import Betas, Cosine, Flow, Linear, NoiseSchedule, ScaledLinear, Sqrt, ZeroTerminalSNR
from calotype.diffusion.solvers import State
from calotype.interop.diffusers.scheduler_config import scheduler_from_diffusers, scheduler_to_diffusers
from calotype.utils.errors import UserError

TABLES = [
    Linear(),
    Linear(beta_start=1e-3, beta_end=5e-2, timesteps=200),
    ScaledLinear(beta_start=0.00085, beta_end=0.012),
    Cosine(),
    Cosine(offset=0.02),
    Sqrt(),
    Betas(values=(0.1, 0.2, 0.15)),
    ZeroTerminalSNR(of=ScaledLinear(beta_start=0.00085, beta_end=0.012)),
]


def opened(config: dict[str, Any]) -> Any:
    import diffusers

    return getattr(diffusers, config["_class_name"]).from_config(config)


@pytest.mark.parametrize("schedule", TABLES, ids=str)
def test_tables_have_the_same_noise(schedule: Any) -> None:
    config = scheduler_to_diffusers(schedule, "eps")
    theirs = opened(config)
    alphas = schedule.alpha(torch.arange(schedule.timesteps).double())
    torch.testing.assert_close(theirs.alphas_cumprod.double().sqrt(), alphas, rtol=2e-4, atol=1e-6)
    again, prediction = scheduler_from_diffusers(config, "scheduler")
    assert prediction == "eps"
    assert again == schedule or again.betas().tolist() == pytest.approx(schedule.betas().tolist())


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_predictions_mean_the_same(prediction: Prediction) -> None:
    schedule = ScaledLinear()
    config = scheduler_to_diffusers(schedule, prediction)
    assert scheduler_from_diffusers(config, "scheduler") == (schedule, prediction)
    theirs, generator = opened(config), torch.Generator().manual_seed(0)
    theirs.set_timesteps(10)
    x0, eps = torch.randn(2, 1, 1, 2, 2, generator=generator)
    t = theirs.timesteps[3]
    alpha, sigma = schedule.alpha(t.double()).float(), schedule.sigma(t.double()).float()
    output = {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0}[prediction]
    found = theirs.step(output, t, alpha * x0 + sigma * eps).pred_original_sample
    torch.testing.assert_close(found, x0, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_steps_are_those_of_our_grids(steps: int) -> None:
    for schedule, prediction, spacing in ((ScaledLinear(), "eps", "trailing"), (Flow(), "flow", "linspace")):
        theirs = opened(scheduler_to_diffusers(schedule, prediction))
        theirs.set_timesteps(steps)
        grid = schedule.grid(steps, spacing)
        wanted = schedule.network_time(grid.t[:-1])
        torch.testing.assert_close(theirs.timesteps.double(), wanted, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("std", [0.3, 2.0])
@pytest.mark.parametrize("steps", [20, 30])
def test_ddim_there_is_ours_from_the_times_that_it_shows_to_those_that_it_steps_to(steps: int, std: float) -> None:
    """It steps by 1000 // steps; where that is not 1000 / steps, x is then taken for less noisy than it is.

    For data N(0, std^2) that is a factor above 1 if they are narrower than the noise, and below if they are wider.
    """
    schedule = ScaledLinear()
    theirs = opened(scheduler_to_diffusers(schedule, "eps"))
    theirs.set_timesteps(steps)
    x = start = torch.linspace(-2, 2, 12, dtype=torch.float64).view(1, 3, 2, 2)
    state, taken, taken_for = State(x=x, x0=x, t=torch.tensor(999.0)), 1.0, 1.0

    def denoise(x: torch.Tensor, t: torch.Tensor) -> Estimate:
        alpha, sigma = schedule.marginal(t, x)
        return Estimate(alpha * std**2 * x / size(t) ** 2, sigma * x / size(t) ** 2, alpha, sigma)

    def size(t: torch.Tensor) -> torch.Tensor:
        return (schedule.alpha(t.double()) ** 2 * std**2 + schedule.sigma(t.double()) ** 2).sqrt()

    for i, t in enumerate(theirs.timesteps):
        x = theirs.step(denoise(x, t).eps, t, x).prev_sample
        then = t.double() - 1000 // steps
        grid = schedule.grid_at(torch.stack([t.double(), then])[: 1 + int(then >= 0)], clean=bool(then < 0))
        state = DDIM().step(denoise, state, grid, 0, None)
        taken *= (grid.alpha.prod() * std**2 + grid.sigma.prod()) / size(t) ** 2
        if i + 1 < steps:
            taken_for *= size(then) / size(theirs.timesteps[i + 1])
    torch.testing.assert_close(x, state.x, rtol=0, atol=1e-5)
    torch.testing.assert_close(x, taken * start, rtol=0, atol=1e-5)
    drift = (float(taken_for) - 1) * (1 if std < 1 else -1)
    assert (drift == pytest.approx(0, abs=1e-9)) if steps == 20 else drift > 5e-3


@pytest.mark.parametrize(
    ("schedule", "prediction", "reason"),
    [(Flow(), "v", "'v' on a flow"), (ScaledLinear(), "flow", "'flow' on a table")],
)
def test_what_no_scheduler_knows_is_refused(schedule: NoiseSchedule, prediction: Prediction, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        scheduler_to_diffusers(schedule, prediction)


def test_every_scheduler_of_a_table_is_read() -> None:
    stated = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True}
    config = stated | {"_class_name": "PNDMScheduler", "set_alpha_to_one": False, "steps_offset": 1}
    assert scheduler_from_diffusers(config, "s") == (ScaledLinear(beta_start=0.00085, beta_end=0.012), "eps")
    config = stated | {"_class_name": "DDIMScheduler", "timestep_values": None, "clip_sample": False}
    assert scheduler_from_diffusers(config, "s") == (ScaledLinear(beta_start=0.00085, beta_end=0.012), "eps")
    config = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "v_prediction", "use_karras_sigmas": True}
    assert scheduler_from_diffusers(config, "s") == (Linear(), "v")
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    assert scheduler_from_diffusers(config, "s") == (Flow(), "flow")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_flow_sigmas": True}, "use_flow_sigmas"),
        ({"prediction_type": "flow_prediction"}, "flow_prediction"),
        ({"beta_schedule": "laplace"}, "laplace"),
        ({"something": 1}, "something"),
        ({"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 500}, "num_train_timesteps"),
    ],
)
def test_options_without_a_counterpart_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        scheduler_from_diffusers({"_class_name": "UniPCMultistepScheduler"} | changes, "scheduler")
