"""Opens the original's checkpoints as our models, with every tensor accounted for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.artifact import Weights
from calotype.conditioner import Conditioner, ConditionerConfig
from calotype.conditioner.embedders.encoded_image import EncodedImageConfig
from calotype.data.pixel_format import PixelFormat
from calotype.interop.modules import build_with
from calotype.interop.original.buffers import BUFFERS, schedule_buffers
from calotype.interop.original.config import OriginalConfig, OriginalDiffusion, original_config
from calotype.interop.original.keys import (
    CONDITION,
    EMA,
    FIRST_STAGE,
    LOG_VARIANCE,
    LOGITS,
    LOSS,
    NETWORK,
    SCALE,
    ema_key,
    original_state,
    prefixed,
)
from calotype.interop.original.reader import read_checkpoint
from calotype.interop.original.report import Account, Report, check_keys
from calotype.models.autoencoder import Autoencoder
from calotype.models.unet import UNet
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.errors import UserError

TOLERANCE = 1e-4


def load_original(
    checkpoint: Path | str, config: OriginalConfig | Mapping[str, Any] | Path | str, *, weights: Weights = "ema"
) -> tuple[LatentDiffusion | TrainedAutoencoder, Report]:
    """Open a checkpoint (``.ckpt``, ``.safetensors``) of the original by its configuration (``.yaml``), in float32.

    Nothing in either file is executed. The weights stay in the file until they are used, so it must stay in its place.
    ``weights="raw"`` takes the last weights of the network instead of their moving average, where there is one.

    Raises:
        UserError: a file that cannot be read, or a checkpoint that does not hold exactly what the configuration says.
    """
    config = original_config(config)
    read = read_checkpoint(checkpoint)
    account = Account(read.state)
    try:
        model = _diffusion(account, config, weights) if config.diffusion else _first_stage(account, config)
    except UserError as error:
        raise UserError(f"{checkpoint}: {error}") from None
    assert not account.left, f"not accounted for: {list(account.left)[:10]}"
    return model, Report(tuple(account.rows), read.facts, read.foreign)


def _check(state: Mapping[str, Tensor], config: OriginalConfig, weights: Weights) -> None:
    """Check keys and shapes.

    Tables, log-variance, losses, second copies and output layers of text models may be absent as a whole: a model needs
    none of them. A moving average may be there although the configuration does not say so.
    """
    diffusion = config.diffusion
    ignored: tuple[str, ...] = ()
    if diffusion:
        averaged = any(key.startswith(EMA) for key in state)
        if diffusion.ema and not averaged and weights == "ema":
            raise UserError("the checkpoint holds no moving average (model_ema.*): take the weights 'raw'")
        config = replace(config, diffusion=replace(diffusion, ema=averaged))
        ignored = (FIRST_STAGE + LOSS, *diffusion.unused)
    expected = original_state(config)
    for optional in _optional(config, expected):
        if not optional & state.keys():
            expected = {key: tensor for key, tensor in expected.items() if key not in optional}
    check_keys({key: tensor for key, tensor in state.items() if not key.startswith(ignored)}, expected)


def _optional(config: OriginalConfig, expected: Mapping[str, Tensor]) -> list[set[str]]:
    prefixes = [LOSS, CONDITION + LOGITS]
    if config.diffusion and _sees_first_stage(config.diffusion):
        prefixes.append(CONDITION)
    groups = [{key for key in expected if key.startswith(prefix)} for prefix in prefixes]
    return [set(BUFFERS), {LOG_VARIANCE}, *groups]


def _sees_first_stage(diffusion: OriginalDiffusion) -> bool:
    return any(isinstance(embedder, EncodedImageConfig) for embedder in diffusion.conditioner.embedders)


def _first_stage(account: Account, config: OriginalConfig) -> TrainedAutoencoder:
    _check(account.left, config, "raw")
    account.take(f"{LOSS}*", _starts(LOSS), "left out: needed in training only")
    return _autoencoder(account.take("all others", list(account.left), "the autoencoder"), config, 1.0)


def _diffusion(account: Account, config: OriginalConfig, weights: Weights) -> LatentDiffusion:
    _check(account.left, config, weights)
    diffusion = config.diffusion
    assert diffusion is not None
    _compare_schedule(account.take("noise tables", BUFFERS.__contains__, "equal to the configuration's"), diffusion)
    account.take(LOG_VARIANCE, LOG_VARIANCE.__eq__, "left out: needed in training only")
    measured = account.take(SCALE, SCALE.__eq__, "the scale of the latents").get(SCALE)
    network = _network(account, diffusion, weights)
    account.take(f"{FIRST_STAGE}{LOSS}*", _starts(FIRST_STAGE + LOSS), "left out: needed in training only")
    first_stage = _without(FIRST_STAGE, account.take(f"{FIRST_STAGE}*", _starts(FIRST_STAGE), "the autoencoder"))
    scale = diffusion.scale_factor if measured is None else float(measured)
    assert scale is not None
    for prefix in diffusion.unused:
        account.take(f"{prefix}*", _starts(prefix), "left out: give the model what this makes")
    return LatentDiffusion(
        autoencoder=_autoencoder(first_stage, config, scale),
        conditioner=_conditioner(account, diffusion.conditioner, first_stage),
        network=network,
        schedule=diffusion.schedule,
        prediction=diffusion.objective.prediction,
    )


def _network(account: Account, diffusion: OriginalDiffusion, weights: Weights) -> UNet:
    averaged = weights == "ema" and any(key.startswith(EMA) for key in account.left)
    fates = ("left out: the moving average is taken", "the network") if averaged else ("the network", "left out")
    raw = _without(NETWORK, account.take(f"{NETWORK}*", _starts(NETWORK), fates[0]))
    ema = account.take(f"{EMA}*", _starts(EMA), fates[1])
    return build_with(diffusion.network.build, {name: ema[ema_key(name)] for name in raw} if averaged else raw)


def _autoencoder(state: Mapping[str, Tensor], config: OriginalConfig, scale: float) -> TrainedAutoencoder:
    model: Autoencoder = build_with(config.autoencoder.build, state)
    model.set_latent_statistics([0.0] * model.latent_channels, [scale] * model.latent_channels)
    pixel_format = PixelFormat(channels=config.autoencoder.image_channels)
    return TrainedAutoencoder(model.eval().requires_grad_(False), pixel_format, config.size)


def _conditioner(account: Account, config: ConditionerConfig, first_stage: Mapping[str, Tensor]) -> Conditioner:
    state: dict[str, Tensor] = {}
    for embedder in config.embedders:
        account.take(f"{CONDITION}{LOGITS}*", _starts(CONDITION + LOGITS), "left out: the model does without")
        if isinstance(embedder, EncodedImageConfig):
            copies = account.take(f"{CONDITION}*", _starts(CONDITION), "equal to the autoencoder: kept once")
            _compare_copies(_without(CONDITION, copies), first_stage)
        else:
            own = account.take(f"{CONDITION}*", _starts(CONDITION), "the conditioner")
            state |= prefixed(f"embedders.{embedder.field}.", _without(CONDITION, own))
    return build_with(config.build, state)


def _compare_schedule(tables: Mapping[str, Tensor], diffusion: OriginalDiffusion) -> None:
    ours = schedule_buffers(diffusion.schedule, diffusion.objective.v_posterior)
    for name, table in tables.items():
        tolerance = max(TOLERANCE, 4 * torch.finfo(table.dtype).eps) * ours[name].abs().max()
        if not torch.allclose(table.float(), ours[name], rtol=0.0, atol=float(tolerance)):
            raise UserError(f"its table {name!r} is not that of the noise schedule in the configuration")


def _compare_copies(copies: Mapping[str, Tensor], originals: Mapping[str, Tensor]) -> None:
    for name, copy in copies.items():
        if not torch.equal(copy, originals[name]):
            raise UserError(f"{CONDITION}{name} and {FIRST_STAGE}{name} must be the same: the first stage is shared")


def _starts(prefix: str) -> Callable[[str], bool]:
    return lambda key: key.startswith(prefix)


def _without(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items()}
