"""Rotary positions of tokens on a grid: what attention sees is how far apart two of them are."""

import torch
from jaxtyping import Float
from torch import Tensor

BASE = 100.0


def rotary_table(
    height: int, width: int, channels: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "2 n d"]:
    """Return cosines and sines of the angles by which tokens of a ``height x width`` grid (row by row) are turned.

    Axial rotary positions (Section 3.2, arXiv:2403.13298): of the ``channels / 2`` pairs of channels of a head, one
    half turns by the row times ``100^(-4 k / channels)``, k = 0, 1, .., the other by the column. ``channels`` must be a
    multiple of 4.
    """
    pairs = channels // 4
    frequencies = BASE ** (-torch.arange(pairs, device=device, dtype=dtype) / pairs)
    rows = torch.arange(height, device=device, dtype=dtype)[:, None, None] * frequencies  # (h, 1, d / 4)
    columns = torch.arange(width, device=device, dtype=dtype)[None, :, None] * frequencies  # (1, w, d / 4)
    shape = (height, width, pairs)
    angles = torch.cat([rows.expand(shape), columns.expand(shape)], dim=-1).flatten(0, 1)  # (h * w, d / 2)
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Float[Tensor, "b h n e"], table: Float[Tensor, "2 n d"]) -> Float[Tensor, "b h n e"]:
    """Turn channels (k, k + d) of every token by its k-th angle (Eq. 34, arXiv:2104.09864); e is 2 d."""
    cos, sin = table
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
