"""A class label, which the network embeds itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from calotype.conditioner.embedders.base import Embedder, FieldConfig, Widths
from calotype.diffusion.conditioning import Conditioning
from calotype.utils.errors import UserError, nearest


@dataclass(frozen=True, kw_only=True)
class LabelEmbedderConfig(FieldConfig):
    """A field with one of ``classes``; the network's ``num_classes`` is one more, its last index is the null."""

    kind: Literal["label"] = "label"
    field: str = "class"
    classes: tuple[str, ...]
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must name at least one class, each once")
        self.check_dropout()

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Return the number of classes, the null included."""
        return Widths(classes=len(self.classes) + 1)

    def build(self) -> "LabelEmbedder":
        """Make the embedder."""
        return LabelEmbedder(self)


class LabelEmbedder(Embedder):
    """Fills ``label``."""

    def __init__(self, config: LabelEmbedderConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self.index = {name: index for index, name in enumerate(config.classes)}

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` names one of the classes."""
        return value is not None and str(value) in self.index

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Int[Tensor, " b"]:  # noqa: ARG002
        """Map class names to their indices; numbers go by their decimal form."""
        return torch.tensor(
            [len(self.index) if value is None else self._index_of(str(value)) for value in values]
        ).long()

    def null(self, count: int, size: tuple[int, int] | None = None) -> Int[Tensor, " b"]:  # noqa: ARG002
        """Return the index of the null class."""
        return torch.full((count,), len(self.index))

    def forward(self, inputs: Int[Tensor, " b"], drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Pass the labels on."""
        return Conditioning(label=inputs if drop is None else torch.where(drop, len(self.index), inputs))

    def _index_of(self, name: str) -> int:
        if name not in self.index:
            raise UserError(f"{self.field} {name!r} is unknown.{nearest(name, self.index)}")
        return self.index[name]
