"""Our models as single files with the original's keys, which other tools open."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from calotype.conditioner import Conditioner, ConditionerConfig
from calotype.conditioner.embedders.bert import BERTEmbedderConfig
from calotype.conditioner.embedders.class_token import ClassEmbedderConfig
from calotype.conditioner.embedders.encoded_image import EncodedImageConfig
from calotype.conditioner.embedders.pass_through import PassThroughConfig
from calotype.conditioner.embedders.spatial_rescaler import SpatialRescalerConfig
from calotype.diffusion.objectives import Objective
from calotype.diffusion.prediction import Prediction
from calotype.diffusion.schedule import Cosine, Linear, NoiseSchedule, ScaledLinear, Sqrt
from calotype.interop.latents import fold_statistics, scaling_factor
from calotype.interop.original.buffers import schedule_buffers
from calotype.interop.original.config import OriginalConfig, OriginalDiffusion, TableSchedule
from calotype.interop.original.keys import CONDITION, FIRST_STAGE, NETWORK, prefixed
from calotype.interop.original.write_config import yaml_data
from calotype.models import AutoencoderConfig, Network
from calotype.models.autoencoder import Autoencoder, AutoencoderKL, AutoencoderKLConfig, IdentityAutoencoderConfig
from calotype.models.quantisers import VectorQuantizer2Config
from calotype.models.unet import UNet, UNetConfig
from calotype.models.vq_model import VQModelConfig
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.errors import UserError
from calotype.utils.files import atomic_write
from calotype.utils.size import height_width
from calotype.utils.tensors import save_tensors

GROUPS = 32
SAVED_EMBEDDERS = (
    ClassEmbedderConfig,
    BERTEmbedderConfig,
    SpatialRescalerConfig,
    PassThroughConfig,
    EncodedImageConfig,
)


def save_original(model: LatentDiffusion | TrainedAutoencoder, path: Path | str) -> OriginalConfig:
    """Write ``model`` as a safetensors file with the original's keys, and its YAML configuration beside it.

    The configuration, which has the same name with ``.yaml`` at its end, is returned as well: ``load_original`` opens
    the file with it. Where normalising the latents takes more than one factor, it is folded into the 1x1 convolutions
    of an ``AutoencoderKL``, whose latents in the file are the normalised ones.

    Raises:
        UserError: the file exists or is called otherwise, or an option has no word in the original; it says which.
    """
    import yaml

    path = Path(path)
    beside = path.with_suffix(".yaml")
    if path.suffix != ".safetensors":
        raise UserError(f"the original's file is written as safetensors: give a name that ends so, not {path.name!r}")
    for file in (path, beside):
        if file.exists():
            raise UserError(f"{file} exists already; give a new name")
    config, state = original_of(model)
    with atomic_write(path) as temporary:
        save_tensors(temporary, state)
    with atomic_write(beside) as temporary:
        temporary.write_text(yaml.safe_dump(yaml_data(config), sort_keys=False), encoding="utf-8")
    return config


def original_of(model: LatentDiffusion | TrainedAutoencoder) -> tuple[OriginalConfig, dict[str, Tensor]]:
    """Return the configuration and the state dict of ``model`` in the original's words.

    Raises:
        UserError: as ``save_original``.
    """
    if isinstance(model, TrainedAutoencoder):
        config = _autoencoder_config(model.model)
        if isinstance(config, IdentityAutoencoderConfig):
            raise _refusal("an autoencoder that does nothing", "alone it has no weights")
        return OriginalConfig(autoencoder=config, size=config.resolution), dict(model.model.state_dict())
    autoencoder = _autoencoder_config(model.autoencoder)
    scale, first_stage = _first_stage(model.autoencoder)
    network = _network_config(model.network)
    schedule = _schedule(model.schedule)
    diffusion = OriginalDiffusion(
        network=network,
        conditioner=_checked_conditioner(model.conditioner.config, scale),
        schedule=schedule,
        objective=Objective(prediction=_prediction(model.prediction)),
        scale_factor=scale,
        ema=False,
    )
    size = max(height_width(model.first_stage.size))
    return OriginalConfig(autoencoder=autoencoder, size=size, diffusion=diffusion), {
        **schedule_buffers(schedule),
        **prefixed(NETWORK, model.network.state_dict()),
        **prefixed(FIRST_STAGE, first_stage),
        **prefixed(CONDITION, _condition(model.conditioner, first_stage)),
    }


def _first_stage(model: Autoencoder) -> tuple[float, dict[str, Tensor]]:
    """Return the factor of the latents and the autoencoder's state dict, with what else normalises them folded in."""
    state, scale = dict(model.state_dict()), scaling_factor(model)
    if scale is not None:
        return scale, state
    if not isinstance(model, AutoencoderKL):
        raise _refusal(
            "the shift or scale of the latents", "it has one scale_factor, and only a KL model can absorb more"
        )
    return 1.0, fold_statistics(model, state)


def _condition(conditioner: Conditioner, first_stage: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for embedder in conditioner.config.embedders:
        own = f"embedders.{embedder.field}."
        state |= {key.removeprefix(own): tensor for key, tensor in conditioner.state_dict().items()}
        if isinstance(embedder, EncodedImageConfig):
            state |= {key: tensor.clone() for key, tensor in first_stage.items()}
    return state


def _autoencoder_config(model: Autoencoder) -> AutoencoderConfig:
    config = model.config
    if isinstance(config, IdentityAutoencoderConfig):
        return config
    if not isinstance(config, AutoencoderKLConfig | VQModelConfig):
        raise _refusal(f"an autoencoder of the class {type(model).__name__}", "it knows two")
    if config.shortcut != "none":
        raise _refusal("the autoencoder's shortcut", "its changes of resolution have none")
    if config.space_to_depth != 1:
        raise _refusal("the autoencoder's space_to_depth", "its layers see single pixels")
    if isinstance(config, VQModelConfig):
        if not isinstance(config.quantiser, VectorQuantizer2Config):
            raise _refusal(f"the quantiser {config.quantiser.kind!r}", "its first stages have VectorQuantizer2")
        if config.quantiser.remap is not None:
            raise _refusal("the quantiser's remap", "it would be a file of its own")
    _check_groups(model, "autoencoder")
    return config


def _network_config(network: Network) -> UNetConfig:
    if not isinstance(network, UNet):
        raise _refusal(f"a network of the class {type(network).__name__}", "its networks are UNets")
    config = network.config
    for name, plain in {"space_to_depth": 1, "vector_channels": None, "num_classes": None, "codes": None}.items():
        if getattr(config, name) != plain:
            raise _refusal(f"the network's {name}", "no released model has the like")
    if config.transformer_depth and config.context_channels is None:
        raise _refusal("transformers without a context", "its spatial transformers need a context_dim")
    _check_groups(network, "network")
    return config


def _check_groups(module: nn.Module, name: str) -> None:
    if any(isinstance(part, nn.GroupNorm) and part.num_groups != GROUPS for part in module.modules()):
        raise _refusal(f"the {name}'s width", f"it must be a multiple of {GROUPS} everywhere")


def _schedule(schedule: NoiseSchedule) -> TableSchedule:
    if not isinstance(schedule, Linear | ScaledLinear | Sqrt | Cosine):
        raise _refusal(f"the schedule {type(schedule).__name__}", "its schedules are tables of betas")
    return schedule


def _prediction(prediction: Prediction) -> Prediction:
    if prediction not in ("eps", "x0"):
        raise _refusal(f"the prediction {prediction!r}", "its networks predict eps or x0")
    return prediction


def _checked_conditioner(config: ConditionerConfig, scale: float) -> ConditionerConfig:
    if len(config.embedders) > 1:
        raise _refusal(f"a condition of {len(config.embedders)} fields", "it has one cond_stage_model")
    for embedder in config.embedders:
        if not isinstance(embedder, SAVED_EMBEDDERS):
            raise _refusal(f"the embedder {embedder.kind!r}", "none of its conditioners is like it")
        if isinstance(embedder, PassThroughConfig) and embedder.slot == "vector":
            raise _refusal(f"the vector {embedder.field!r}", "its networks take tokens or images")
        if isinstance(embedder, EncodedImageConfig) and embedder.latents == "normalised" and scale != 1:
            raise _refusal("the normalised latents of the masked image", "it conditions on raw ones")
    return config


def _refusal(what: str, reason: str) -> UserError:
    return UserError(f"{what} has no word in the original: {reason}")
