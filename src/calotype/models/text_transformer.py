"""A small transformer encoder over token ids: what turns a caption into context tokens."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calotype.nn.attention import FeedForward, attend
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class TextTransformerConfig(Config):
    """Shape of the transformer: ``layers`` blocks of attention and feed-forward, ``channels`` wide.

    ``embedding_dropout`` is the share of the embedded tokens' values that training drops before the first block.
    """

    vocabulary_size: int
    length: int = 16
    channels: int = 128
    layers: int = 2
    heads: int = 4
    head_channels: int = 32
    embedding_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "length", "channels", "layers", "heads", "head_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.embedding_dropout <= 1:
            raise ValueError(f"embedding_dropout must be between 0 and 1, not {self.embedding_dropout}")

    def build(self) -> "TextTransformer":
        """Make the transformer with fresh weights."""
        return TextTransformer(self)


class TextTransformer(nn.Module):
    """Pre-norm transformer encoder with learned positions; state-dict keys as in the reference's ``BERTEmbedder``."""

    def __init__(self, config: TextTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.token_emb = nn.Embedding(config.vocabulary_size, config.channels)
        positions = nn.Embedding(config.length, config.channels)
        self.pos_emb = nn.ModuleDict({"emb": positions})
        self.emb_dropout = nn.Dropout(config.embedding_dropout)
        self.attn_layers = _blocks(
            config.channels, config.layers, heads=config.heads, head_channels=config.head_channels
        )
        self.norm = nn.LayerNorm(config.channels)
        for embedding in (self.token_emb, positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n d"]:
        """Embed token ids; ``mask`` is True where a token may be seen (everywhere if None, as in the reference)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.emb_dropout(self.token_emb(tokens) + self.pos_emb["emb"](positions))
        return self.norm(_through(self.attn_layers, x, mask))


class StateTransformer(nn.Module):
    """The same encoder over states that are embedded already, ``channels`` wide, and know their positions."""

    def __init__(self, channels: int, layers: int, *, heads: int) -> None:
        super().__init__()
        self.attn_layers = _blocks(channels, layers, heads=heads, head_channels=channels // heads)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n d"]:
        """Transform states; ``mask`` is True where one may be seen."""
        return self.norm(_through(self.attn_layers, x, mask))


class TokenAttention(nn.Module):
    """Multi-head self-attention of tokens, ``softmax(q k^T / sqrt(d)) v``."""

    def __init__(self, channels: int, *, heads: int, head_channels: int) -> None:
        super().__init__()
        inner = heads * head_channels
        self.heads = heads
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(channels, inner, bias=False)
        self.to_v = nn.Linear(channels, inner, bias=False)
        self.to_out = nn.Linear(inner, channels)

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n d"]:
        q, k, v = (
            rearrange(project(x), "b n (h d) -> b h n d", h=self.heads) for project in (self.to_q, self.to_k, self.to_v)
        )
        seen = None if mask is None else mask[:, None, None, :]
        out = attend(q, k, v, seen)
        return self.to_out(rearrange(out, "b h n d -> b n (h d)"))


def _blocks(channels: int, layers: int, *, heads: int, head_channels: int) -> nn.ModuleDict:
    blocks = nn.ModuleList()
    for _ in range(layers):
        for module in (
            TokenAttention(channels, heads=heads, head_channels=head_channels),
            FeedForward(channels, gated=False),
        ):
            blocks.append(nn.ModuleList([nn.LayerNorm(channels), module]))
    return nn.ModuleDict({"layers": blocks})


def _through(blocks: nn.ModuleDict, x: Tensor, mask: Tensor | None) -> Tensor:
    for layer in blocks["layers"].children():
        norm, module = layer.children()
        x = x + (module(norm(x), mask) if isinstance(module, TokenAttention) else module(norm(x)))
    return x
