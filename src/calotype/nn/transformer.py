"""The block of a diffusion transformer: modulated self-attention, attention to a context, gated feed-forward."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calotype.nn.attention import attend
from calotype.nn.normalisation import RMSNorm, zero_init
from calotype.nn.rotary import rotate


def linear(channels: int, out_channels: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer that starts as the paper's: weights Xavier-uniform, bias zero."""
    layer = nn.Linear(channels, out_channels, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def modulate(x: Float[Tensor, "b n d"], shift: Float[Tensor, "b 1 d"], scale: Float[Tensor, "b 1 d"]) -> Tensor:
    """Return ``x (1 + scale) + shift``."""
    return x * (1 + scale) + shift


class QKNormAttention(nn.Module):
    """Multi-head attention of x to a context, or to itself, whose queries and keys are normalised per head.

    The RMSNorm of queries and keys bounds their products, which otherwise grow until training diverges
    (arXiv:2302.05442, Section 2). Positions, where given, turn both afterwards.
    """

    def __init__(self, channels: int, *, heads: int, context_channels: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = linear(channels, channels, bias=False)
        self.to_kv = linear(context_channels or channels, 2 * channels, bias=False)
        self.norm_q, self.norm_k = RMSNorm(channels // heads), RMSNorm(channels // heads)
        self.to_out = linear(channels, channels)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m e"] | None = None,
        mask: Bool[Tensor, "b m"] | None = None,
        *,
        rotary: Float[Tensor, "2 n r"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Attend; ``mask`` is True where a context token may be seen, ``rotary`` are the positions of x."""
        q = rearrange(self.to_q(x), "b n (h d) -> b h n d", h=self.heads)
        kv = self.to_kv(x if context is None else context)
        k, v = rearrange(kv, "b m (two h d) -> two b h m d", two=2, h=self.heads)
        q, k = self.norm_q(q), self.norm_k(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        out = attend(q, k, v, None if mask is None else mask[:, None, None, :])
        return self.to_out(rearrange(out, "b h n d -> b n (h d)"))


class SwiGLU(nn.Module):
    """Gated feed-forward ``W_2 (silu(a) * g)`` with ``[a, g] = W_1 x`` (Eq. 6, arXiv:2002.05202).

    It is 8/3 as wide inside as outside (in whole multiples of 32), and so has the weights of two layers four times as
    wide.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 32 * max(1, round(channels / 12))
        self.first, self.last = linear(channels, 2 * inner), linear(inner, channels)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        value, gate = self.first(x).chunk(2, dim=-1)
        return self.last(F.silu(value) * gate)


class DiTBlock(nn.Module):
    """A block with adaLN-zero (Section 3.2, arXiv:2212.09748).

    The embedding e of time and class gives shift, scale and gate of either branch:
    ``x + gate * attention(norm(x) (1 + scale) + shift)``, then the same with the feed-forward. In between, unmodulated,
    attention to the context is added. Gates and the last layer of that attention start at zero, so that the whole block
    starts as the identity.
    """

    def __init__(self, channels: int, *, heads: int, context_channels: int | None = None) -> None:
        super().__init__()
        self.modulation = nn.Sequential(nn.SiLU(), zero_init(nn.Linear(channels, 6 * channels)))
        self.norm1, self.attn1 = RMSNorm(channels, scale=False), QKNormAttention(channels, heads=heads)
        self.attn2: QKNormAttention | None = None
        if context_channels is not None:
            self.norm2 = RMSNorm(channels)
            self.attn2 = QKNormAttention(channels, heads=heads, context_channels=context_channels)
            zero_init(self.attn2.to_out)
        self.norm3, self.ff = RMSNorm(channels, scale=False), SwiGLU(channels)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        emb: Float[Tensor, "b d"],
        context: Float[Tensor, "b m e"] | None = None,
        context_mask: Bool[Tensor, "b m"] | None = None,
        *,
        rotary: Float[Tensor, "2 n r"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Transform tokens whose positions are ``rotary``; without them the block does not know where a token is."""
        shift1, scale1, gate1, shift3, scale3, gate3 = self.modulation(emb)[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attn1(modulate(self.norm1(x), shift1, scale1), rotary=rotary)
        if self.attn2 is not None:
            x = x + self.attn2(self.norm2(x), context, context_mask)
        return x + gate3 * self.ff(modulate(self.norm3(x), shift3, scale3))
