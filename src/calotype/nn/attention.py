"""Attention over tokens, and the spatial transformer that lets an image attend to its context."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calotype.nn.normalisation import group_norm, zero_init

SMALL_SCORES = 2**16


def attend(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m e"],
    mask: Bool[Tensor, "b 1 1 m"] | None = None,
) -> Float[Tensor, "b h n e"]:
    """Return ``softmax(q k^T / sqrt(d)) v`` (arXiv:1706.03762, Eq. 1); ``mask`` is True where a token may be seen.

    On a CPU the fused kernel's backward pass is several times slower than three matrix products while the scores are
    small, so up to ``SMALL_SCORES`` of them per head are written out; the softmax is taken in float32 at least.
    """
    if q.device.type != "cpu" or q.shape[-2] * k.shape[-2] > SMALL_SCORES:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(v.dtype) @ v


class CrossAttention(nn.Module):
    """Multi-head attention ``softmax(q k^T / sqrt(d)) v`` (arXiv:1706.03762, Eq. 1) of x to a context, or to itself."""

    def __init__(
        self,
        channels: int,
        *,
        context_channels: int | None = None,
        heads: int = 8,
        head_channels: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner = heads * head_channels
        context_channels = context_channels or channels
        self.heads = heads
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(context_channels, inner, bias=False)
        self.to_v = nn.Linear(context_channels, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, channels), nn.Dropout(dropout))

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m e"] | None = None,
        mask: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Attend; ``mask`` is True where a context token may be seen."""
        context = x if context is None else context
        q, k, v = (
            rearrange(tokens, "b n (h d) -> b h n d", h=self.heads)
            for tokens in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        seen = None if mask is None else mask[:, None, None, :]
        out = attend(q, k, v, seen)
        return self.to_out(rearrange(out, "b h n d -> b n (h d)"))


class GEGLU(nn.Module):
    """Gated linear unit ``a * gelu(g)`` with ``[a, g] = W x + b`` and the exact GELU (arXiv:2002.05202)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * out_channels)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... e"]:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Two layers over the last axis, ``multiplier`` times as wide inside; gated (GEGLU) or plain GELU."""

    def __init__(
        self,
        channels: int,
        *,
        out_channels: int | None = None,
        multiplier: int = 4,
        gated: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner = channels * multiplier
        first = GEGLU(channels, inner) if gated else nn.Sequential(nn.Linear(channels, inner), nn.GELU())
        self.net = nn.Sequential(first, nn.Dropout(dropout), nn.Linear(inner, out_channels or channels))

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... e"]:
        return self.net(x)


class BasicTransformerBlock(nn.Module):
    """Self-attention, attention to the context, gated feed-forward: each after a LayerNorm, each added to its input."""

    def __init__(
        self, channels: int, *, heads: int, head_channels: int, context_channels: int | None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attn1 = CrossAttention(channels, heads=heads, head_channels=head_channels, dropout=dropout)
        self.ff = FeedForward(channels, dropout=dropout)
        self.attn2 = CrossAttention(
            channels, context_channels=context_channels, heads=heads, head_channels=head_channels, dropout=dropout
        )
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m e"] | None = None,
        context_mask: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Transform tokens; without a context the second attention, too, looks at x itself."""
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), context, context_mask) + x
        return self.ff(self.norm3(x)) + x


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map, between two 1x1 convolutions, added to the input.

    Section 3.3 of arXiv:2112.10752: this is where conditioning by cross-attention enters the UNet. The last convolution
    starts at zero, so that the whole block starts as the identity.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        head_channels: int,
        depth: int = 1,
        context_channels: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner = heads * head_channels
        self.norm = group_norm(channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, inner, 1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                inner, heads=heads, head_channels=head_channels, context_channels=context_channels, dropout=dropout
            )
            for _ in range(depth)
        )
        self.proj_out = zero_init(nn.Conv2d(inner, channels, 1))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        context: Float[Tensor, "b m e"] | None = None,
        context_mask: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Let every position attend to all positions and to the context."""
        height = x.shape[-2]
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c").contiguous()
        for block in self.transformer_blocks:
            tokens = block(tokens, context, context_mask)
        return self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=height).contiguous()) + x
