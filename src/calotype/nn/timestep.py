"""Sinusoidal embedding of time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def timestep_embedding(t: Float[Tensor, " b"], channels: int, max_period: float = 10_000.0) -> Float[Tensor, "b d"]:
    """Embed real-valued times: ``[cos(t w_k), sin(t w_k)]`` with ``w_k = max_period^(-k / half)``, k = 0 .. half - 1.

    Section 3.5 of arXiv:1706.03762 in the order of the reference (cosines first); an odd ``channels`` gets a column of
    zeros. Computed in float32.
    """
    half = channels // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t[:, None].float() * frequencies[None]
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)  # (b, 2 * half)
    return torch.nn.functional.pad(embedding, (0, channels % 2))
