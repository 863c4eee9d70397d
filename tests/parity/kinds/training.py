"""What training does to weights: whole steps of a latent diffusion model, averages, learning rates, latent scale."""

from typing import Any

import torch
from golden_file import Golden
from torch import Tensor, nn

from calotype.diffusion import q_sample
from calotype.diffusion.log_variance import LogVarianceConfig
from calotype.training.ema import ConstantEMA, EMAConfig, MovingAverage, WarmUpEMA
from calotype.training.encode import scale_by_std
from calotype.training.learning_rate import CosineCycles, Cycle, LearningRateSchedule, LinearCycles
from calotype.training.optimiser import OptimiserConfig
from kinds import kind
from kinds.networks import autoencoder_config, unet_config
from kinds.objectives import logs_of, objective_of, table_of

CONSTANT_DECAY = 0.95


@kind("train_ldm_step")
def train_ldm_step(golden: Golden) -> dict[str, Tensor]:
    """Three steps of AdamW, each followed by the average's. Only the network is averaged, as in the reference."""
    config, inputs = golden.config["ldm"], golden.inputs
    network = unet_config(golden.config["unet"]).build().train()
    network.load_state_dict(golden.state)
    objective, schedule = objective_of(config), table_of(config)
    log_variance = LogVarianceConfig(init=config.get("logvar_init", 0.0)).build(schedule)
    log_variance.requires_grad_(config.get("learn_logvar", False))
    trained = {**dict(network.named_parameters()), **dict(log_variance.named_parameters())}
    settings = OptimiserConfig(learning_rate=golden.config["lr"], betas=(0.9, 0.999), weight_decay=0.01)
    optimiser = settings.build(trained.values())
    average = MovingAverage({"network": network}, WarmUpEMA(decay=0.9999))
    averaged = dict(average.modules["network"].named_parameters())

    t, found = inputs["t"].float(), {}
    x_t = q_sample(inputs["x0"], inputs["noise"], t, schedule)
    for step in (1, 2, 3):
        output = network(x_t, schedule.network_time(t), **slots_of(golden))
        terms = objective.terms(output, inputs["x0"], inputs["noise"], t, schedule, log_variance(t))
        loss = terms.total.mean()
        optimiser.zero_grad()
        loss.backward()
        if step == 1:
            gradients = {name: parameter.grad.clone() for name, parameter in trained.items() if parameter.requires_grad}
            found |= {f"grad.{name}": gradient for name, gradient in gradients.items()}
            found |= {"grad_logvar": gradients.get("logvar"), **logs_of(terms, log_variance)}
        optimiser.step()
        average.update(step)
        found[f"loss_{step}"] = loss
        found[f"param_norms_{step}"] = norms(golden.config["param_names"], trained)
        found[f"ema_norms_{step}"] = norms(golden.config["param_names"], averaged)
    found |= {f"after3.{name}": parameter for name, parameter in trained.items()}
    return found | {f"ema3.{name}": parameter for name, parameter in averaged.items()}


def slots_of(golden: Golden) -> dict[str, Tensor]:
    """The condition as what the network takes: images are joined to its input, numbers are classes, else tokens."""
    cond = golden.inputs.get("cond", golden.inputs.get("y"))
    if cond is None:
        return {}
    return {{1: "label", 3: "context", 4: "concat"}[cond.ndim]: cond}


def norms(names: list[str], parameters: dict[str, Tensor]) -> Tensor:
    """The lengths of the parameters, in the order of ``names``."""
    return torch.stack([parameters[name].detach().norm() for name in names if name in parameters])


@kind("ema_trajectory")
def ema_trajectory(golden: Golden) -> dict[str, Tensor]:
    """The buffers of the reference's averages: names without dots, the decay, and how often it was updated."""
    warm_up = golden.config.get("use_num_updates", golden.config.get("use_num_upates", True))
    profile = (WarmUpEMA if warm_up else ConstantEMA)(decay=golden.config["decay"])
    return {**averages(golden, "ema", profile), **averages(golden, "ema_const", ConstantEMA(decay=CONSTANT_DECAY))}


def averages(golden: Golden, prefix: str, profile: EMAConfig) -> dict[str, Tensor]:
    """Feed the recorded weights to an average of the profile."""
    weights: dict[int, dict[str, Tensor]] = {}
    for key, value in golden.inputs.items():
        step, name = key.removeprefix("param_").split(".", 1)
        weights.setdefault(int(step), {})[name.replace(".", "")] = value
    module = nn.Module()
    for name, value in weights[0].items():
        module.register_parameter(name, nn.Parameter(value.clone()))
    average, found = MovingAverage({"it": module}, profile), {}
    for step in range(1, len(weights)):
        for name, parameter in module.named_parameters():
            parameter.data.copy_(weights[step][name])
        average.update(step)
        updates = step if isinstance(profile, WarmUpEMA) else -1
        state = {"decay": torch.tensor(profile.decay), "num_updates": torch.tensor(updates, dtype=torch.int32)}
        state |= {name: value.clone() for name, value in average.modules["it"].named_parameters()}
        found |= {f"{prefix}_{step}.{name}": value for name, value in state.items()}
    return found


@kind("lr_schedules")
def lr_schedules(golden: Golden) -> dict[str, Tensor]:
    """A step is a sample here."""
    config, found = golden.config, {}
    cosine, cycles, released = config["cosine"], cycles_of(config["cycles"]), cycles_of(config["linear_released"])
    one = Cycle(
        length=cosine["max_decay_steps"],
        warm_up=cosine["warm_up_steps"],
        start=cosine["lr_start"],
        peak=cosine["lr_max"],
        end=cosine["lr_min"],
    )
    schedules: dict[str, LearningRateSchedule] = {
        "cosine": CosineCycles(cycles=(one,)),
        "cosine2": CosineCycles(cycles=cycles),
        "linear": LinearCycles(cycles=cycles, fall_from="cycle_start"),
        "linear_released": LinearCycles(cycles=released, fall_from="cycle_start"),
    }
    for name, schedule in schedules.items():
        steps = golden.inputs["steps_released" if name == "linear_released" else "steps"].tolist()
        exact = torch.tensor([schedule.multiplier(step) for step in steps], dtype=torch.float64)
        found |= {name: exact.float(), f"{name}_f64": exact}
    return found


def cycles_of(config: dict[str, Any]) -> tuple[Cycle, ...]:
    """The cycles of the reference's lists."""
    names = ("cycle_lengths", "warm_up_steps", "f_start", "f_max", "f_min")
    return tuple(
        Cycle(length=length, warm_up=warm_up, start=start, peak=peak, end=end)
        for length, warm_up, start, peak, end in zip(*(config[name] for name in names), strict=True)
    )


@kind("ldm_scale_by_std")
def ldm_scale_by_std(golden: Golden) -> dict[str, Tensor]:
    """The first batch gives the scale; other noise is drawn for the latents that are trained on."""
    inputs = golden.inputs
    model = autoencoder_config(golden.config["first_stage"]).build().eval()
    model.load_state_dict(golden.state)
    x = inputs["image_nhwc"].movedim(-1, 1)
    posterior = model.encode(x)
    scale = scale_by_std(posterior.sample(inputs["noise_std"]))
    model.set_latent_statistics([0.0] * model.latent_channels, [scale] * model.latent_channels)
    z = model.normalise(posterior.sample(inputs["noise_input"]))
    return {"scale_factor": torch.tensor(scale), "z": z, "x": x, "xrec": model.decode(model.denormalise(z))}
