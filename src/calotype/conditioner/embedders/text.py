"""Captions as context tokens, through an own small transformer."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from calotype.conditioner.embedders.base import Embedder, FieldConfig, Widths
from calotype.conditioner.embedders.tokenizer import START, WordTokenizer, words_of
from calotype.diffusion.conditioning import Conditioning
from calotype.models.text_transformer import TextTransformerConfig
from calotype.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TextEmbedderConfig(FieldConfig):
    """A caption field as ``length`` context tokens, ``channels`` wide; ``pooled`` adds their mean as a vector, too.

    ``dropout`` is the share of captions that are replaced by the null in training. In training a caption gets, with
    ``keyword_probability``, one to three of the record's ``keyword_field`` words appended: more words, same picture.
    """

    kind: Literal["text"] = "text"
    field: str = "caption"
    vocabulary: tuple[str, ...]
    length: int = 16
    channels: int = 128
    layers: int = 2
    heads: int = 4
    pooled: bool = True
    dropout: float = 0.1
    keyword_field: str | None = None
    keyword_probability: float = 0.5

    def __post_init__(self) -> None:
        if not self.vocabulary or len(set(self.vocabulary)) < len(self.vocabulary):
            raise ValueError("vocabulary must have at least one word, each once")
        for name in ("length", "channels", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        self.check_dropout()
        if not 0 <= self.keyword_probability <= 1:
            raise ValueError(f"keyword_probability must be between 0 and 1, not {self.keyword_probability}")
        if self.channels % self.heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of heads ({self.heads})")

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Return the tokens' width, and that of their mean."""
        return Widths(context=self.channels, vector=self.channels if self.pooled else 0)

    def build(self) -> "TextEmbedder":
        """Make the embedder with fresh weights."""
        return TextEmbedder(self)


class TextEmbedder(Embedder):
    """Fills ``context``, ``context_mask`` and, if pooled, ``vector``."""

    def __init__(self, config: TextEmbedderConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self.tokenizer = WordTokenizer(config.vocabulary, config.length)
        self.transformer = TextTransformerConfig(
            vocabulary_size=self.tokenizer.size,
            length=config.length,
            channels=config.channels,
            layers=config.layers,
            heads=config.heads,
            head_channels=config.channels // config.heads,
        ).build()
        if config.pooled:
            self.pool = nn.Linear(config.channels, config.channels)

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is text; words that are not in the vocabulary are left out of it."""
        return isinstance(value, str)

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Int[Tensor, "b n"]:  # noqa: ARG002
        """Map captions to token ids."""
        for value in values:
            if value is not None and not isinstance(value, str):
                raise UserError(f"{self.field} must be text, not {type(value).__name__}: {value!r}")
        return torch.tensor([self.tokenizer.encode(value or "") for value in values]).view(-1, self.config.length)

    def null(self, count: int, size: tuple[int, int] | None = None) -> Int[Tensor, "b n"]:  # noqa: ARG002
        """Return the tokens of ``count`` empty captions."""
        return torch.full((count, self.config.length), START)

    def forward(self, inputs: Int[Tensor, "b n"], drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Embed token ids. The start token is always seen, padding never."""
        if drop is not None:
            inputs = torch.where(drop[:, None], START, inputs)
        mask = inputs != START
        mask[:, 0] = True
        context = self.transformer(inputs, mask)
        if not self.config.pooled:
            return Conditioning(context=context, context_mask=mask)
        weights = mask.to(context.dtype)[:, :, None]
        mean = (context * weights).sum(dim=1) / weights.sum(dim=1)
        return Conditioning(context=context, context_mask=mask, vector=self.pool(mean))

    def augment(self, value: Any, others: dict[str, Any], random: Random) -> Any:
        """Append some of the record's keywords (a list, or one text of several words) to the caption."""
        keywords = others.get(self.config.keyword_field or "") or ()
        keywords = [str(word) for word in keywords] if isinstance(keywords, list | tuple) else words_of(str(keywords))
        if not value or not keywords or random.random() >= self.config.keyword_probability:
            return value
        chosen = random.sample(keywords, k=min(random.randint(1, 3), len(keywords)))
        return " ".join([value, *chosen])
