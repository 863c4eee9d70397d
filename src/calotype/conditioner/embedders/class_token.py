"""A class as one context token, as the reference's class-conditional models see it."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from calotype.conditioner.embedders.base import Embedder, FieldConfig, Widths
from calotype.diffusion.conditioning import Conditioning
from calotype.utils.errors import UserError, nearest


@dataclass(frozen=True, kw_only=True)
class ClassEmbedderConfig(FieldConfig):
    """A field with a class number from 0 to ``classes - 1``, or one of their names, as one token of ``channels``.

    ``null_class`` is the number that stands for "no class" (1000 of 1001 in the reference's cin256-v2), None where the
    model knows none.
    """

    kind: Literal["class_token"] = "class_token"
    field: str = "class"
    classes: int | tuple[str, ...] = 1000
    channels: int
    null_class: int | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("class_count", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name.replace('class_count', 'classes')} must be at least 1, not {getattr(self, name)}"
                )
        if not isinstance(self.classes, int) and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must name each class once")
        if self.null_class is not None and not 0 <= self.null_class < self.class_count:
            raise ValueError(f"null_class must be one of 0 to {self.class_count - 1}, not {self.null_class}")
        self.check_dropout(null=self.null_class is not None)

    @property
    def class_count(self) -> int:
        """How many classes there are, the null included."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Return the token's width."""
        return Widths(context=self.channels)

    def build(self) -> "ClassEmbedder":
        """Make the embedder with fresh weights."""
        return ClassEmbedder(self)


class ClassEmbedder(Embedder):
    """Fills ``context`` with one token; state-dict key ``embedding.weight`` as in the reference."""

    def __init__(self, config: ClassEmbedderConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self.embedding = nn.Embedding(config.class_count, config.channels)
        names = () if isinstance(config.classes, int) else config.classes
        self.index = {name: number for number, name in enumerate(names)}

    @property
    def has_null(self) -> bool:
        """Whether a class stands for "none"."""
        return self.config.null_class is not None

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is the number of a class, as an integer or in decimal digits."""
        return self._number(value) is not None

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Int[Tensor, " b"]:  # noqa: ARG002
        """Map class numbers to a tensor."""
        return torch.tensor([self._class(value) for value in values], dtype=torch.long)

    def null(self, count: int, size: tuple[int, int] | None = None) -> Int[Tensor, " b"]:  # noqa: ARG002
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
            hint = nearest(str(value), self.index) if self.index else f" Give 0 to {self.config.class_count - 1}"
            raise UserError(f"{self.field} {str(value)!r} is unknown.{hint}")
        return number

    def _number(self, value: Any) -> int | None:
        if self.index:
            return self.index.get(str(value))
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)
        try:
            number = operator.index(value)
        except TypeError:
            return None
        return number if 0 <= number < self.config.class_count else None
