"""A folder of diffusers as one of our models."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from calotype.conditioner import ConditionerConfig, EmbedderConfig, LabelEmbedderConfig
from calotype.conditioner.embedders.pass_through import PassThroughConfig
from calotype.data.pixel_format import PixelFormat
from calotype.interop.diffusers.autoencoder_config import (
    autoencoder_config_from_diffusers,
    latent_statistics_from_diffusers,
    left_out,
)
from calotype.interop.diffusers.layout import image_size
from calotype.interop.diffusers.scheduler_config import scheduler_from_diffusers
from calotype.interop.diffusers.unet_config import unet_config_from_diffusers
from calotype.interop.diffusers.weights import WEIGHTS, autoencoder_from_diffusers, unet_from_diffusers
from calotype.models.autoencoder import ConvolutionalAutoencoder, IdentityAutoencoder, IdentityAutoencoderConfig
from calotype.models.unet import UNetConfig
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.errors import UserError
from calotype.utils.files import read_json
from calotype.utils.tensors import load_tensors


def load_diffusers(folder: Path | str) -> LatentDiffusion | TrainedAutoencoder:
    """Open what diffusers (or ``export``) wrote: an autoencoder, or the parts of a latent diffusion model.

    An autoencoder is a folder with an AutoencoderKL or a VQModel. Of a model, ``unet``, ``scheduler`` and ``vae`` or
    ``vqvae`` are read (without either of those, it is one of pixels); text encoders, tokenisers and the like are not.
    In their place the conditioner takes what they made: the fields ``text_embedding`` (context tokens), ``vector`` and
    ``concat``. The last of a network's classes is taken for "no class", as guidance and calotype have it; the others
    are called "0", "1" and so on. Pixels are 8-bit.

    Raises:
        UserError: nothing of the kind is there, or an option has no counterpart here; it names the option.
    """
    folder = Path(folder)
    if (folder / "unet").is_dir():
        return _latent_diffusion(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no model of diffusers (neither unet/ nor config.json)")
    if "_class_name" not in read_json(folder / "config.json"):
        raise UserError(f"{folder} holds no model of diffusers (its config.json names no class)")
    return _autoencoder(folder)


def _autoencoder(folder: Path, size: int | None = None) -> TrainedAutoencoder:
    data, where = _config(folder / "config.json")
    model = autoencoder_config_from_diffusers(data, where).build()
    _check_groups(model, data.get("norm_num_groups", 32), where)
    autoencoder_from_diffusers(model, _weights(folder), left_out(data))
    model.set_latent_statistics(*latent_statistics_from_diffusers(data, where))
    return _trained(model, data.get("in_channels", 3), size or image_size(data.get("sample_size", 32)))


def _latent_diffusion(folder: Path) -> LatentDiffusion:
    data, where = _config(folder / "unet" / "config.json")
    config = unet_config_from_diffusers(data, where)
    schedule, prediction = scheduler_from_diffusers(*_config(folder / "scheduler" / "scheduler_config.json"))
    network = config.build()
    _check_groups(network, data.get("norm_num_groups", 32), where)
    unet_from_diffusers(network, _weights(folder / "unet"))
    autoencoder = _first_stage(folder, config, data.get("sample_size"))
    latents = autoencoder.model.latent_channels
    if config.out_channels != latents or config.in_channels < latents:
        widths = f"{config.in_channels} and {config.out_channels}"
        raise UserError(f"{where}: in_channels and out_channels {widths} do not fit latents of {latents} channels")
    return LatentDiffusion(
        autoencoder=autoencoder,
        conditioner=ConditionerConfig(embedders=_embedders(config, latents)).build(),
        network=network,
        schedule=schedule,
        prediction=prediction,
    )


def _first_stage(folder: Path, config: UNetConfig, sample_size: Any) -> TrainedAutoencoder:
    for name in ("vae", "vqvae"):
        if (folder / name).is_dir():
            found = _autoencoder(folder / name)
            size = found.size if sample_size is None else image_size(sample_size) * found.model.factor
            return TrainedAutoencoder(found.model, found.pixel_format, size)
    if sample_size is None:
        raise UserError(f"{folder / 'unet' / 'config.json'}: a network of pixels needs its sample_size")
    channels = config.out_channels
    return _trained(IdentityAutoencoderConfig(image_channels=channels).build(), channels, image_size(sample_size))


def _trained(model: ConvolutionalAutoencoder | IdentityAutoencoder, channels: int, size: int) -> TrainedAutoencoder:
    return TrainedAutoencoder(model.eval().requires_grad_(False), PixelFormat(channels=channels), size)


def _embedders(config: UNetConfig, latents: int) -> tuple[EmbedderConfig, ...]:
    embedders: list[EmbedderConfig] = []
    if config.context_channels is not None:
        embedders.append(PassThroughConfig(field="text_embedding", slot="context", channels=config.context_channels))
    if config.vector_channels is not None:
        embedders.append(PassThroughConfig(field="vector", slot="vector", channels=config.vector_channels))
    if config.num_classes is not None:
        embedders.append(LabelEmbedderConfig(classes=tuple(map(str, range(config.num_classes - 1)))))
    if config.in_channels > latents:
        channels = config.in_channels - latents
        embedders.append(PassThroughConfig(field="concat", slot="concat", channels=channels, null="none"))
    return tuple(embedders)


def _config(path: Path) -> tuple[dict[str, Any], str]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path} is no configuration of diffusers")
    return data, str(path)


def _weights(folder: Path) -> dict[str, Tensor]:
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has no {WEIGHTS}; save the model with diffusers, in one file of safetensors")
    return load_tensors(folder / WEIGHTS)


def _check_groups(module: nn.Module, groups: int, where: str) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.GroupNorm) and layer.num_groups != groups:
            stated = f"{groups} for {layer.num_channels} channels (calotype has {layer.num_groups})"
            raise UserError(f"{where}: norm_num_groups {stated} has no counterpart")
