"""Vectors of frozen networks to context tokens: what text states, image vectors and neighbours share."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calotype.conditioner.embedders.base import Embedder, Widths
from calotype.diffusion.conditioning import Conditioning
from calotype.models.text_transformer import StateTransformer
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class ProjectionConfig(Config):
    """A linear layer from a vector to ``tokens`` context tokens, ``channels`` wide, then ``layers`` transformer blocks.

    ``pooled`` adds the mean of an image's tokens as a vector, too.
    """

    channels: int = 128
    tokens: int = 1
    layers: int = 0
    heads: int = 4
    pooled: bool = True

    def __post_init__(self) -> None:
        for name, least in (("channels", 1), ("tokens", 1), ("layers", 0), ("heads", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.channels % self.heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of heads ({self.heads})")

    @property
    def widths(self) -> Widths:
        """What it brings to a network."""
        return Widths(context=self.channels, vector=self.channels if self.pooled else 0)


class Projection(nn.Module):
    """Up to n vectors per image to context tokens; one without any gets a learned token, which starts at zero."""

    def __init__(self, config: ProjectionConfig, width: int) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.proj = nn.Linear(width, config.tokens * config.channels)
        self.null = nn.Parameter(torch.zeros(config.channels))
        self.transformer = (
            StateTransformer(config.channels, config.layers, heads=config.heads) if config.layers else None
        )
        self.pool = nn.Linear(config.channels, config.channels) if config.pooled else None

    def forward(self, vectors: Float[Tensor, "b n d"], present: Bool[Tensor, "b n"]) -> Conditioning:
        """Project the vectors that are ``present``, each normalised to mean 0 and variance 1 (LayerNorm)."""
        tokens = self.proj(F.layer_norm(vectors, (self.width,)))
        tokens = rearrange(tokens, "b n (t c) -> b (n t) c", t=self.config.tokens)
        mask = present.repeat_interleave(self.config.tokens, dim=1)
        first, nothing = torch.arange(mask.shape[1], device=mask.device) == 0, ~present.any(1)
        alone = nothing[:, None] & first
        tokens, mask = torch.where(alone[:, :, None], self.null.to(tokens.dtype), tokens), mask | alone
        if self.transformer is not None:
            tokens = self.transformer(tokens, mask)
        if self.pool is None:
            return Conditioning(context=tokens, context_mask=mask)
        weights = mask.to(tokens.dtype)[:, :, None]
        mean = (tokens * weights).sum(dim=1) / weights.sum(dim=1)
        return Conditioning(context=tokens, context_mask=mask, vector=self.pool(mean))


class ProjectedVectors(Embedder):
    """An embedder whose values become up to ``count`` vectors of ``width`` numbers, and these context tokens.

    Prepared inputs are vectors with one more channel: 1 where there is a vector, 0 elsewhere.
    """

    count: int
    width: int
    projection: Projection

    @abstractmethod
    def vectors(self, values: Sequence[Any]) -> Sequence[Float[Tensor, "n d"]]:
        """Return the vectors, on the CPU, of values that are not missing.

        Raises:
            UserError: a value that this embedder cannot take.
        """

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where a frozen network works."""
        return self.projection.null.device

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Float[Tensor, "b n d"]:  # noqa: ARG002
        """Map values to vectors, a missing one to none."""
        inputs = self.null(len(values))
        present = [row for row, value in enumerate(values) if value is not None]
        for row, vectors in zip(present, self.vectors([values[row] for row in present]), strict=True):
            inputs[row, : len(vectors), :-1] = vectors
            inputs[row, : len(vectors), -1] = 1
        return inputs

    def null(self, count: int, size: tuple[int, int] | None = None) -> Float[Tensor, "b n d"]:  # noqa: ARG002
        """Return no vectors for ``count`` images."""
        return torch.zeros(count, self.count, self.width + 1)

    def forward(self, inputs: Float[Tensor, "b n d"], drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Project vectors to tokens."""
        present = inputs[:, :, -1] > 0
        return self.projection(inputs[:, :, :-1], present if drop is None else present & ~drop[:, None])
