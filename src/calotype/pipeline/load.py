"""From an artifact to the model in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from calotype.artifact import Artifact, Weights, read_artifact
from calotype.conditioner import Conditioner, ConditionerConfig
from calotype.data.derived import DerivedFields
from calotype.data.pixel_format import PixelFormat
from calotype.diffusion.schedule import NoiseSchedules
from calotype.encoders import RetrievalIndex
from calotype.models import AutoencoderConfig, Network, NetworkConfig
from calotype.models.autoencoder import Autoencoder
from calotype.models.latent_rgb import LatentToRGB
from calotype.models.tiny_decoder import TinyDecoder, TinyDecoderConfig
from calotype.pipeline.latent_diffusion import LatentDiffusion
from calotype.pipeline.trained_autoencoder import TrainedAutoencoder
from calotype.utils.config import from_dict
from calotype.utils.errors import UserError
from calotype.utils.size import read_size


def load(path: Path | str, *, weights: Weights = "ema") -> "LatentDiffusion | TrainedAutoencoder | TinyDecoder":
    """Load what was trained at ``path``: an artifact, a training run or a chain (``calotype run``); needs nothing else.

    ``weights="raw"`` takes the last weights instead of their moving average.

    Raises:
        UserError: nothing is there, or it is damaged.
    """
    artifact = read_artifact(path)
    if artifact.kind == "autoencoder":
        return load_autoencoder(artifact, weights=weights)
    if artifact.kind == LatentDiffusion.kind:
        return load_latent_diffusion(artifact, weights=weights)
    if artifact.kind == "tiny_decoder":
        return build_tiny_decoder(artifact, weights=weights)
    raise UserError(f"{path} holds a {artifact.kind!r}, which this calotype does not know")


def load_autoencoder(artifact: Artifact, *, weights: Weights = "ema") -> TrainedAutoencoder:
    """Build the autoencoder of an artifact of kind ``autoencoder`` or ``latent_diffusion``."""
    return build_autoencoder(artifact.config, artifact.weights("autoencoder", weights))


def build_autoencoder(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> TrainedAutoencoder:
    """Build an autoencoder from an artifact's configuration and a state dict, which must fit exactly."""
    model: Autoencoder = from_dict(AutoencoderConfig, config["autoencoder"], where="autoencoder").build()
    _load_state(model, state, "autoencoder")
    model.set_latent_statistics(config["latent"]["shift"], config["latent"]["scale"])
    pixel_format: PixelFormat = from_dict(PixelFormat, config["pixel_format"], where="pixel_format")
    rgb = config["latent"].get("rgb")
    return TrainedAutoencoder(
        model.eval().requires_grad_(False),
        pixel_format,
        read_size(config["size"]),
        None if rgb is None else from_dict(LatentToRGB, rgb, where="latent.rgb"),
    )


def build_tiny_decoder(artifact: Artifact, *, weights: Weights = "ema") -> TinyDecoder:
    """Build the decoder of an artifact of kind ``tiny_decoder``."""
    config: TinyDecoderConfig = from_dict(TinyDecoderConfig, artifact.config["tiny_decoder"], where="tiny_decoder")
    decoder = config.build()
    _load_state(decoder, artifact.weights("tiny_decoder", weights), "tiny decoder")
    return decoder.eval().requires_grad_(False)


def load_latent_diffusion(artifact: Artifact, *, weights: Weights = "ema") -> LatentDiffusion:
    """Build the model of an artifact of kind ``latent_diffusion``."""
    config = artifact.config
    conditioner: Conditioner = from_dict(ConditionerConfig, config["conditioner"], where="conditioner").build()
    network: Network = from_dict(NetworkConfig, config["network"], where="network").build()
    _load_state(network, artifact.weights("network", weights), "network")
    if conditioner.state_dict():
        _load_state(conditioner, artifact.weights("conditioner", weights), "conditioner")
    index = artifact.file("index")
    return LatentDiffusion(
        autoencoder=load_autoencoder(artifact),
        conditioner=conditioner,
        network=network,
        schedule=from_dict(NoiseSchedules, config["schedule"], where="schedule"),
        prediction=config["prediction"],
        derived=[from_dict(DerivedFields, each, where="derived") for each in config.get("derived", ())],
        index=RetrievalIndex.load(index) if index.exists() else None,
    )


def _load_state(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    wanted = module.state_dict()
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    wrong = [key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape]
    if missing or extra or wrong:
        found = f"missing {missing[:10]}, unexpected {extra[:10]}, of another shape {wrong[:10]}"
        raise UserError(f"the weights do not fit the {name}: {found}")
    module.load_state_dict(dict(state))
