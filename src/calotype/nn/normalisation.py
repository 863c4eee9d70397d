"""Group normalisation as the reference has it, and parameters that start at zero."""

import math
from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """Return GroupNorm with 32 groups, or the largest power of two up to 32 that divides ``channels``.

    The reference's epsilons: 1e-5 in the UNet's own blocks, 1e-6 in autoencoders and spatial transformers.
    """
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=eps)


def zero_init(module: M) -> M:
    """Set all parameters of ``module`` to zero and return it: a residual branch that starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
