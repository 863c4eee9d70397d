from typing import Any

import pytest
import torch

from calotype.diffusion.prediction import Prediction
from calotype.diffusion.schedule import Betas, Cosine, Flow, Linear, NoiseSchedule, ScaledLinear, Sqrt, ZeroTerminalSNR
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
