"""Losses are summed in float32 or better, whatever the networks ran in."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return ``values`` in float32, or unchanged where they are float32 or float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
