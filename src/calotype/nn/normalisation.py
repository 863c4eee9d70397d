"""Group normalisation as the reference has it, RMSNorm, and parameters that start at zero."""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """Return GroupNorm with 32 groups, or the largest power of two up to 32 that divides ``channels``.

    The reference's epsilons: 1e-5 in the UNet's own blocks, 1e-6 in autoencoders and spatial transformers.
    """
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=eps)


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x^2) + 1e-6)`` over the last axis (arXiv:1910.07467), times a learned scale unless it is off."""

    def __init__(self, channels: int, *, scale: bool = True) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels)) if scale else None

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, (self.channels,), weight, eps=1e-6)


def zero_init(module: M) -> M:
    """Set all parameters of ``module`` to zero and return it: a residual branch that starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
