"""A class as one context token, as the reference's class-conditional models see it."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from calotype.conditioner.embedders.base import Embedder, FieldConfig
from calotype.diffusion.conditioning import Conditioning
from calotype.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ClassEmbedderConfig(FieldConfig):
    """A field with a class number from 0 to ``classes - 1``, embedded as one token of ``channels``.

    ``null_class`` is the number that stands for "no class" (1000 of 1001 in the reference's cin256-v2), None where the
    model knows none.
    """

    kind: Literal["class_token"] = "class_token"
    field: str = "class"
    classes: int = 1000
    channels: int
    null_class: int | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("classes", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.null_class is not None and not 0 <= self.null_class < self.classes:
            raise ValueError(f"null_class must be one of 0 to {self.classes - 1}, not {self.null_class}")
        self.check_dropout(null=self.null_class is not None)

    @property
    def context_channels(self) -> int:
        """Width of the token."""
        return self.channels

    def build(self) -> "ClassEmbedder":
        """Make the embedder with fresh weights."""
        return ClassEmbedder(self)


class ClassEmbedder(Embedder):
    """Fills ``context`` with one token; state-dict key ``embedding.weight`` as in the reference."""

    def __init__(self, config: ClassEmbedderConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self.embedding = nn.Embedding(config.classes, config.channels)

    @property
    def has_null(self) -> bool:
        """Whether a class stands for "none"."""
        return self.config.null_class is not None

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is the number of a class, as an integer or in decimal digits."""
        return self._number(value) is not None

    def prepare(self, values: Sequence[Any]) -> Int[Tensor, " b"]:
        """Map class numbers to a tensor."""
        return torch.tensor([self._class(value) for value in values], dtype=torch.long)

    def null(self, count: int) -> Int[Tensor, " b"]:
        """Return the null class."""
        if self.config.null_class is None:
            raise self.missing()
        return torch.full((count,), self.config.null_class)

    def forward(self, inputs: Int[Tensor, " b"], drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Embed class numbers."""
        if drop is not None and self.config.null_class is not None:
            inputs = torch.where(drop, self.config.null_class, inputs)
        return Conditioning(context=self.embedding(inputs)[:, None])

    def _class(self, value: Any) -> int:
        if value is None:
            return int(self.null(1))
        number = self._number(value)
        if number is None:
            raise UserError(
                f"{self.field} {str(value)!r} is unknown; give a number from 0 to {self.config.classes - 1}"
            )
        return number

    def _number(self, value: Any) -> int | None:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)
        try:
            number = operator.index(value)
        except TypeError:
            return None
        return number if 0 <= number < self.config.classes else None
