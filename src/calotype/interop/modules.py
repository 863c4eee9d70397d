"""Modules made from weights that are somewhere else already."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
SET_BY_THE_CALLER = ("latent_shift", "latent_scale")


def build_with(build: Callable[[], M], state: Mapping[str, Tensor]) -> M:
    """Call ``build`` (of a configuration) for a module whose weights *are* those of ``state``, in float32: no copies.

    The latent statistics of an autoencoder, which no state dict holds, are zero until they are set.

    Raises:
        RuntimeError: keys or shapes do not fit.
    """
    with torch.device("meta"):
        module = build()
    weights = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    module.load_state_dict(weights, assign=True)
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_meta:
                assert name in SET_BY_THE_CALLER, f"{name} has no value"
                setattr(part, name, torch.zeros_like(buffer, device="cpu"))
    return module
