"""The original's YAML files as our configurations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from calotype.conditioner import ConditionerConfig
from calotype.diffusion.log_variance import LogVarianceConfig
from calotype.diffusion.loss import L1Loss, L2Loss
from calotype.diffusion.objectives import Objective
from calotype.diffusion.schedule import Cosine, Linear, ScaledLinear, Sqrt
from calotype.interop.original.conditioning import Slot, conditioner_config, unused_keys
from calotype.interop.original.losses import LossConfig, loss_config
from calotype.interop.original.networks import autoencoder_kl_config, unet_config, vq_model_config
from calotype.interop.original.parameters import Parameters, read_yaml, section
from calotype.models import AutoencoderConfig
from calotype.models.autoencoder import AutoencoderKLConfig, IdentityAutoencoderConfig
from calotype.models.unet import UNetConfig
from calotype.models.vq_model import VQModelConfig
from calotype.utils.config import Config
from calotype.utils.errors import UserError

TableSchedule = Annotated[Linear | ScaledLinear | Sqrt | Cosine, Field(discriminator="kind")]

_DIFFUSION = ("ldm.models.diffusion.ddpm.LatentDiffusion", "ldm.models.diffusion.ddpm.Layout2ImgDiffusion")
_UNET = "ldm.modules.diffusionmodules.openaimodel.UNetModel"
_FIRST_STAGES: dict[str, Callable[[Mapping[str, Any]], AutoencoderKLConfig | VQModelConfig]] = {
    "ldm.models.autoencoder.AutoencoderKL": autoencoder_kl_config,
    "ldm.models.autoencoder.VQModel": vq_model_config,
    "ldm.models.autoencoder.VQModelInterface": vq_model_config,
}
_IDENTITY = "ldm.models.autoencoder.IdentityFirstStage"
_RATES = tuple(
    f"ldm.lr_scheduler.Lambda{name}" for name in ("LinearScheduler", "WarmUpCosineScheduler", "WarmUpCosineScheduler2")
)
_RATE_PARAMETERS = [
    "warm_up_steps",
    "max_decay_steps",
    "verbosity_interval",
    "lr_start",
    "lr_max",
    "lr_min",
    "lr_max_decay_steps",
    "f_start",
    "f_max",
    "f_min",
    "cycle_lengths",
]
_TRAINING_ONLY = [
    "ckpt_path",
    "clip_denoised",
    "cond_stage_trainable",
    "first_stage_key",
    "ignore_keys",
    "load_only_unet",
    "log_every_t",
    "monitor",
    "num_timesteps_cond",
]
_MOST_TIMESTEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class OriginalDiffusion(Config):
    """What a configuration says about its diffusion model.

    ``scale_factor`` multiplies latents before they are noised; None where training measured it (``scale_by_std``): the
    checkpoint holds it. ``ema`` tells whether the checkpoint holds a moving average. ``unused`` are beginnings of keys
    that it may hold, too, and that belong to nothing of ours.
    """

    network: UNetConfig
    conditioner: ConditionerConfig = ConditionerConfig()
    schedule: TableSchedule
    objective: Objective
    scale_factor: float | None = 1.0
    ema: bool = True
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OriginalConfig(Config):
    """A configuration of the original: of a diffusion model, or, where ``diffusion`` is None, of a first stage alone.

    ``size`` is that of the images in pixels. ``loss`` is what a first stage is trained on; its ``disc_start`` counts
    the original's steps, as ``learning_rate`` is before any scaling by batch size or devices.
    """

    autoencoder: AutoencoderConfig
    size: int
    loss: LossConfig | None = None
    diffusion: OriginalDiffusion | None = None
    learning_rate: float | None = None


def original_config(source: "OriginalConfig | Mapping[str, Any] | Path | str") -> OriginalConfig:
    """Read a configuration of the original: its YAML file, or what is in it.

    It is data to us. A ``target`` is looked up in a table, nothing is imported; only the section ``model`` is read.

    Raises:
        UserError: it cannot be read, or names a target or a parameter that is not known.
    """
    if isinstance(source, OriginalConfig):
        return source
    where, data = ("configuration", source) if isinstance(source, Mapping) else (source, read_yaml(Path(source)))
    try:
        if not isinstance(data, Mapping):
            raise UserError("it has no section 'model'")
        return _model_config(data.get("model", data))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _model_config(node: Any) -> OriginalConfig:
    target, params = section("model", node, also=("base_learning_rate",))
    rate = Parameters("model", node).number("base_learning_rate") if "base_learning_rate" in node else None
    if target in _DIFFUSION:
        return _diffusion_config(params, rate)
    if target not in _FIRST_STAGES:
        raise _unknown("model", target)
    autoencoder = _FIRST_STAGES[target](params.values)
    loss = loss_config(params.value("lossconfig"))
    return OriginalConfig(autoencoder=autoencoder, size=autoencoder.resolution, loss=loss, learning_rate=rate)


def _diffusion_config(params: Parameters, rate: float | None) -> OriginalConfig:
    params.only(given_betas=None, use_positional_encodings=False, cond_stage_forward=None)
    params.ignore(*_TRAINING_ONLY)
    _check_rate(params.value("scheduler_config", None))
    channels, scale = params.integer("channels", 3), params.number("scale_factor", 1.0)
    autoencoder = _first_stage(params.value("first_stage_config"), channels)
    network = _network(params.value("unet_config"))
    diffusion = OriginalDiffusion(
        network=network,
        conditioner=_conditioner(params, network, channels),
        schedule=_schedule(params),
        objective=_objective(params),
        scale_factor=None if params.flag("scale_by_std", False) else scale,
        ema=params.flag("use_ema", True),
        unused=unused_keys(params.value("cond_stage_config")),
    )
    size = params.integer("image_size", 256)
    if not isinstance(autoencoder, IdentityAutoencoderConfig):
        size *= autoencoder.factor
    params.finish()
    return OriginalConfig(autoencoder=autoencoder, size=size, diffusion=diffusion, learning_rate=rate)


def _first_stage(node: Any, channels: int) -> AutoencoderConfig:
    target, params = section("first_stage_config", node)
    if target == _IDENTITY:
        return IdentityAutoencoderConfig(image_channels=channels)
    if target not in _FIRST_STAGES:
        raise _unknown("first_stage_config", target)
    loss_config(params.value("lossconfig"))
    autoencoder = _FIRST_STAGES[target](params.values)
    if autoencoder.latent_channels != channels:
        raise UserError(f"channels must be the first stage's {autoencoder.latent_channels}, not {channels}")
    return autoencoder


def _network(node: Any) -> UNetConfig:
    target, params = section("unet_config", node)
    if target != _UNET:
        raise _unknown("unet_config", target)
    params.only(n_embed=None)
    return unet_config(params.values)


def _conditioner(params: Parameters, network: UNetConfig, channels: int) -> ConditionerConfig:
    concat, key = params.flag("concat_mode", True), params.value("cond_stage_key", "image")
    name = params.value("conditioning_key", None) or ("concat" if concat else "crossattn")
    if name not in ("concat", "crossattn"):
        raise params.wrong("conditioning_key", "concat or crossattn")
    if not isinstance(key, str):
        raise params.wrong("cond_stage_key", "a name")
    if name == "concat":
        slot = Slot("concat", network.in_channels - channels, key)
    else:
        slot = Slot("context", network.context_channels or 0, key)
    return conditioner_config(params.value("cond_stage_config"), slot, channels)


def _schedule(params: Parameters) -> TableSchedule:
    timesteps = params.integer("timesteps", 1000, most=_MOST_TIMESTEPS)
    ends = {"beta_start": params.number("linear_start", 1e-4), "beta_end": params.number("linear_end", 2e-2)}
    offset = params.number("cosine_s", 8e-3)
    ramps = {"linear": ScaledLinear, "sqrt_linear": Linear, "sqrt": Sqrt, "cosine": Cosine}
    schedule = params.choice("beta_schedule", ramps, "linear")
    options = {"offset": offset} if schedule is Cosine else ends
    return params.make_part(schedule, timesteps=timesteps, **options)


def _objective(params: Parameters) -> Objective:
    prediction = params.choice("parameterization", {"eps": "eps", "x0": "x0"}, "eps")
    log_variance = LogVarianceConfig(init=params.number("logvar_init", 0.0))
    return params.make_part(
        Objective,
        prediction=prediction,
        loss=params.choice("loss_type", {"l1": L1Loss(), "l2": L2Loss()}, "l2"),
        simple_weight=params.number("l_simple_weight", 1.0),
        elbo_weight=params.number("original_elbo_weight", 0.0),
        elbo_formula="alpha_ratio" if prediction == "x0" else "variational_bound",
        v_posterior=params.number("v_posterior", 0.0),
        log_variance=log_variance if params.flag("learn_logvar", False) else None,
    )


def _check_rate(node: Any) -> None:
    """Check that a ``scheduler_config`` is one of the original's; it matters to training alone."""
    if node is None:
        return
    target, params = section("scheduler_config", node)
    if target not in _RATES:
        raise _unknown("scheduler_config", target)
    params.ignore(*_RATE_PARAMETERS)
    params.finish()


def _unknown(where: str, target: str) -> UserError:
    return UserError(f"{where}: the target {target[:80]!r} is not among those that are read")
