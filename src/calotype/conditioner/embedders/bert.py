"""Tokens through a transformer encoder: the reference's text and layout conditioning."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from calotype.conditioner.embedders.base import Embedder, FieldConfig, Widths
from calotype.conditioner.embedders.bpe import BPEConfig
from calotype.conditioner.embedders.layout import LayoutConfig
from calotype.conditioner.embedders.tokens import TokenIdsConfig, Tokens, are_ids
from calotype.conditioner.embedders.wordpiece import WordPieceConfig
from calotype.diffusion.conditioning import Conditioning
from calotype.models.text_transformer import TextTransformerConfig
from calotype.utils.errors import UserError

TokensConfig = Annotated[WordPieceConfig | BPEConfig | LayoutConfig | TokenIdsConfig, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True)
class BERTEmbedderConfig(FieldConfig):
    """``length`` tokens through ``layers`` blocks of 8 heads x 64, ``channels`` wide; padding is seen like any token.

    ``tokens`` says how values become tokens. ``null`` is the ``empty`` value (caption, layout), or there is none.
    """

    kind: Literal["bert"] = "bert"
    field: str = "caption"
    vocabulary_size: int = 30_522
    length: int = 77
    channels: int = 1280
    layers: int = 32
    embedding_dropout: float = 0.0
    tokens: TokensConfig = WordPieceConfig()
    null: Literal["empty", "none"] = "empty"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self.tokens.check(self.length, self.vocabulary_size)
        if self.null == "empty" and isinstance(self.tokens, TokenIdsConfig):
            raise ValueError("null must be 'none' where values are token ids: nothing says which of them mean nothing")
        self.check_dropout(null=self.null != "none")
        self.transformer  # noqa: B018 (checks the rest)

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Return the tokens' width."""
        return Widths(context=self.channels)

    @property
    def transformer(self) -> TextTransformerConfig:
        """The shape of the transformer."""
        return TextTransformerConfig(
            vocabulary_size=self.vocabulary_size,
            length=self.length,
            channels=self.channels,
            layers=self.layers,
            heads=8,
            head_channels=64,
            embedding_dropout=self.embedding_dropout,
        )

    def build(self) -> "BERTEmbedder":
        """Make the embedder with fresh weights."""
        return BERTEmbedder(self)


class BERTEmbedder(Embedder):
    """Fills ``context``; state-dict keys ``transformer.*`` as in the reference, whose ``to_logits`` are not used.

    A list of ``length`` token ids is taken in place of any value.
    """

    def __init__(self, config: BERTEmbedderConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self.tokens: Tokens | None = config.tokens.build(config.length)
        self.transformer = config.transformer.build()

    @property
    def has_null(self) -> bool:
        """Whether the empty value stands for a missing one."""
        return self.config.null == "empty"

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is a list of ids, or what the tokeniser takes."""
        return are_ids(value) or (self.tokens is not None and self.tokens.takes(value))

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Int[Tensor, "b n"]:  # noqa: ARG002
        """Map values to token ids."""
        rows = [self._row(value) for value in values]
        return torch.tensor(rows, dtype=torch.long).view(-1, self.config.length)

    def null(self, count: int, size: tuple[int, int] | None = None) -> Int[Tensor, "b n"]:  # noqa: ARG002
        """Return the tokens of ``count`` empty values."""
        if not self.has_null:
            raise self.missing()
        return torch.tensor(self._empty, dtype=torch.long).expand(count, -1)

    def forward(self, inputs: Int[Tensor, "b n"], drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Embed token ids."""
        if drop is not None and self.has_null:
            inputs = torch.where(drop[:, None], self.null(1).to(inputs.device), inputs)
        return Conditioning(context=self.transformer(inputs))

    def augment(self, value: Any, others: dict[str, Any], random: Random) -> Any:  # noqa: ARG002
        """Vary a value as the tokeniser does: the objects of a layout get another order."""
        return value if self.tokens is None else self.tokens.vary(value, random)

    @cached_property
    def _empty(self) -> list[int]:
        assert self.tokens is not None
        return self.tokens.empty()

    def _row(self, value: Any) -> list[int]:
        if value is None:
            return [int(token) for token in self.null(1)[0]]
        if not self.takes(value):
            kinds = {"wordpiece": "text", "bpe": "text", "layout": "a list of objects", "ids": "a list of token ids"}
            raise UserError(
                f"{self.field} must be {kinds[self.config.tokens.kind]}, not {type(value).__name__}: {value!r}"
            )
        row = [int(token) for token in value] if are_ids(value) or self.tokens is None else self.tokens.encode(value)
        if len(row) != self.config.length:
            raise UserError(f"{self.field} must have {self.config.length} token ids, not {len(row)}")
        if wrong := [token for token in row if not 0 <= token < self.config.vocabulary_size]:
            raise UserError(f"{self.field}: token ids must be 0 to {self.config.vocabulary_size - 1}, not {wrong[0]}")
        return row
