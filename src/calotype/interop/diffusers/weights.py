"""State dicts of whole networks in the layout of diffusers and back."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from calotype.interop.diffusers.places import Place, autoencoder_places, to_ours, to_theirs, unet_places
from calotype.models.autoencoder import ConvolutionalAutoencoder
from calotype.models.unet import UNet
from calotype.nn.blocks import AttentionBlock
from calotype.utils.errors import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def unet_to_diffusers(network: UNet) -> dict[str, Tensor]:
    """Return the weights under the names of UNet2DModel and UNet2DConditionModel."""
    state = network.state_dict()
    for name, block in _attention_blocks(network):
        for part in ("weight", "bias"):
            rows = rearrange(state.pop(f"{name}.qkv.{part}"), _rows(network, part), three=3, h=block.heads)
            state |= {f"{name}.{letter}.{part}": values for letter, values in zip("qkv", rows, strict=True)}
    return _as_linear(to_theirs(state, unet_places(network.config)))


def unet_from_diffusers(network: UNet, state: Mapping[str, Tensor]) -> None:
    """Load weights under the names of diffusers into ``network``, which must fit exactly."""
    ours = to_ours(_modern(state), unet_places(network.config))
    for name, block in _attention_blocks(network):
        for part in ("weight", "bias"):
            keys = [f"{name}.{letter}.{part}" for letter in "qkv"]
            if missing := [key for key in keys if key not in ours]:
                raise UserError(f"the weights lack {missing[0]}")
            packed, rows = _rows(network, part).split(" -> ")
            joined = rearrange(torch.stack([ours.pop(key) for key in keys]), f"{rows} -> {packed}", h=block.heads)
            ours[f"{name}.qkv.{part}"] = joined
    load_exactly(network, ours)


def autoencoder_to_diffusers(model: ConvolutionalAutoencoder) -> dict[str, Tensor]:
    """Return the weights under the names of AutoencoderKL and VQModel in diffusers."""
    return _as_linear(to_theirs(model.state_dict(), _autoencoder_places(model)))


def autoencoder_from_diffusers(
    model: ConvolutionalAutoencoder, state: Mapping[str, Tensor], left_out: Sequence[str] = ()
) -> None:
    """Load weights under the names of diffusers into ``model``, which must fit exactly.

    The 1x1 convolutions that are ``left_out`` there become identities here.
    """
    ours = to_ours(_modern(state), _autoencoder_places(model))
    for name in left_out:
        width = len(getattr(model, name).bias)
        ours |= {f"{name}.weight": torch.eye(width), f"{name}.bias": torch.zeros(width)}
    load_exactly(model, ours)


def load_exactly(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load ``state``, whose tensors may lack or have trailing axes of length 1 (linear layers are 1x1 convolutions).

    Raises:
        UserError: a weight is missing, has no place, or has another shape.
    """
    wanted = module.state_dict()
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    wrong = [key for key in wanted.keys() & state.keys() if _squeezed(wanted[key]) != _squeezed(state[key])]
    if missing or extra or wrong:
        found = f"missing {missing[:5]}, unexpected {extra[:5]}, of another shape {wrong[:5]}"
        raise UserError(f"the weights do not fit their configuration: {found}")
    module.load_state_dict({key: tensor.reshape(wanted[key].shape) for key, tensor in state.items()})


def _attention_blocks(network: UNet) -> Iterator[tuple[str, AttentionBlock]]:
    return ((name, module) for name, module in network.named_modules() if isinstance(module, AttentionBlock))


def _rows(network: UNet, part: str) -> str:
    """How the rows of ``qkv`` fall apart into q, k and v with their heads side by side."""
    packed = "(h three c)" if network.config.split_heads_first else "(three h c)"
    return f"{packed} i 1 -> three (h c) i" if part == "weight" else f"{packed} -> three (h c)"


def _autoencoder_places(model: ConvolutionalAutoencoder) -> list[Place]:
    return autoencoder_places(len(model.config.channel_multipliers), model.config.num_res_blocks)


def _as_linear(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    projections = tuple(f".{name}.weight" for name in PROJECTIONS)
    return {key: tensor.flatten(1) if key.endswith(projections) else tensor for key, tensor in state.items()}


def _modern(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename what diffusers called the projections of its attention until 2023."""
    renamed = {}
    for key, tensor in state.items():
        path, _, leaf = key.rpartition(".")
        parent, _, name = path.rpartition(".")
        attends = ".attentions." in key and name in OLD_NAMES
        renamed[f"{parent}.{OLD_NAMES[name]}.{leaf}" if attends else key] = tensor
    return renamed


def _squeezed(tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
