"""What a checkpoint of the original holds: every key and its shape, from our own modules on torch's meta device."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from calotype.conditioner import ConditionerConfig
from calotype.conditioner.embedders.bert import BERTEmbedderConfig
from calotype.conditioner.embedders.encoded_image import EncodedImageConfig
from calotype.interop.original.buffers import BUFFERS
from calotype.interop.original.config import OriginalConfig
from calotype.interop.original.losses import LossConfig
from calotype.losses.lpips_with_discriminator import LPIPSWithDiscriminatorConfig
from calotype.losses.vgg import LPIPS

NETWORK, EMA = "model.diffusion_model.", "model_ema."
FIRST_STAGE, CONDITION, LOSS = "first_stage_model.", "cond_stage_model.", "loss."
SCALE, LOG_VARIANCE = "scale_factor", "logvar"
LOGITS = "transformer.to_logits."


def original_keys(config: OriginalConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a checkpoint of ``config``, by its key."""
    return {key: tuple(tensor.shape) for key, tensor in original_state(config).items()}


def original_state(config: OriginalConfig) -> dict[str, Tensor]:
    """Return such a checkpoint's state dict on the meta device: shapes and types, no numbers."""
    with torch.device("meta"):
        first_stage = config.autoencoder.build().state_dict()
        diffusion = config.diffusion
        if diffusion is None:
            return first_stage | (_loss_state(config.loss) if config.loss else {})
        network, timesteps = diffusion.network.build(), diffusion.schedule.timesteps
        return {
            **({LOG_VARIANCE: torch.empty(timesteps)} if diffusion.objective.log_variance else {}),
            **{name: torch.empty(timesteps) for name in BUFFERS},
            **({SCALE: torch.empty(())} if diffusion.scale_factor is None else {}),
            **prefixed(NETWORK, network.state_dict()),
            **(_ema_state(network) if diffusion.ema else {}),
            **prefixed(FIRST_STAGE, first_stage),
            **prefixed(CONDITION, _condition_state(diffusion.conditioner, first_stage)),
        }


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` with ``prefix`` before every key."""
    return {prefix + key: tensor for key, tensor in state.items()}


def ema_key(name: str) -> str:
    """Return the key of the moving average of the network's parameter ``name``: one without dots."""
    return EMA + f"diffusion_model.{name}".replace(".", "")


def _ema_state(network: nn.Module) -> dict[str, Tensor]:
    counters = {EMA + "decay": torch.empty(()), EMA + "num_updates": torch.empty((), dtype=torch.int32)}
    return counters | {ema_key(name): parameter.detach() for name, parameter in network.named_parameters()}


def _condition_state(config: ConditionerConfig, first_stage: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for embedder in config.embedders:
        state |= embedder.build().state_dict()
        if isinstance(embedder, EncodedImageConfig):
            state |= first_stage
        if isinstance(embedder, BERTEmbedderConfig):
            logits = nn.Linear(embedder.channels, embedder.vocabulary_size)
            state |= prefixed(LOGITS, logits.state_dict())
    return state


def _loss_state(config: LossConfig) -> dict[str, Tensor]:
    state = prefixed("perceptual_loss.", LPIPS().state_dict())
    state |= prefixed("discriminator.", config.discriminator.build().state_dict())
    if isinstance(config, LPIPSWithDiscriminatorConfig):
        state["logvar"] = torch.empty(())
    return prefixed(LOSS, state)
