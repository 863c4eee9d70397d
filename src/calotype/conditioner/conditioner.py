"""A set of embedders, one per field, whose outputs join into one Conditioning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from calotype.conditioner.embedders.base import Embedder
from calotype.conditioner.embedders.label import LabelEmbedderConfig
from calotype.conditioner.embedders.text import TextEmbedderConfig
from calotype.diffusion.conditioning import Conditioning
from calotype.utils.config import Config
from calotype.utils.errors import UserError, nearest
from calotype.utils.seeds import seed_of

EmbedderConfig = Annotated[TextEmbedderConfig | LabelEmbedderConfig, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True)
class ConditionerConfig(Config):
    """The embedders, in the order in which their outputs are joined. None at all: an unconditional model."""

    embedders: tuple[EmbedderConfig, ...] = ()

    def __post_init__(self) -> None:
        fields = [embedder.field for embedder in self.embedders]
        if len(set(fields)) < len(fields):
            raise ValueError(f"embedders: a field may have one embedder only, not {fields}")
        if taken := [field for field in fields if not field or "." in field or hasattr(nn.ModuleDict(), field)]:
            raise ValueError(f"embedders: {taken[0]!r} cannot be a field's name; rename it in the data")
        if sum(isinstance(embedder, LabelEmbedderConfig) for embedder in self.embedders) > 1:
            raise ValueError("embedders: at most one may be of kind 'label'")
        if len(widths := {text.channels for text in self.embedders if isinstance(text, TextEmbedderConfig)}) > 1:
            raise ValueError(f"embedders: those of kind 'text' must have the same channels, not {sorted(widths)}")

    def build(self) -> "Conditioner":
        """Make the conditioner with fresh weights."""
        return Conditioner(self)


class Conditioner(nn.Module):
    """Fields of the data to one ``Conditioning``: context tokens and vectors are joined, at most one label.

    An unconditional conditioner has no embedders and returns an empty ``Conditioning``.
    """

    def __init__(self, config: ConditionerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedders = nn.ModuleDict({embedder.field: embedder.build() for embedder in config.embedders})

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that condition the model, in order."""
        return tuple(self.embedders)

    def known(self, fields: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Return those ``fields`` that condition the model, with None for values that it cannot take (a new class)."""
        return {
            name: [value if embedder.takes(value) else None for value in fields[name]]
            for name, embedder in self._items()
            if name in fields
        }

    def prepare(self, fields: Mapping[str, Sequence[Any]], count: int) -> dict[str, Tensor]:
        """Map field values (one per image; a missing field is null everywhere) to tensors on the CPU."""
        return {
            name: embedder.prepare(fields[name]) if name in fields else embedder.null(count)
            for name, embedder in self._items()
        }

    def prepare_training(
        self, fields: Mapping[str, Sequence[Any]], count: int, key: Sequence[tuple[int | str, ...]]
    ) -> dict[str, Tensor]:
        """Like ``prepare``, after varying every value by a generator that depends on the image's ``key`` alone."""
        varied: dict[str, list[Any]] = {}
        for name, embedder in self._items():
            values = fields.get(name, [None] * count)
            others = [{other: fields[other][row] for other in fields} for row in range(count)]
            randoms = [Random(seed_of(name, *row_key)) for row_key in key]
            varied[name] = [embedder.augment(*row) for row in zip(values, others, randoms, strict=True)]
        return self.prepare(varied, count)

    def forward(
        self, inputs: Mapping[str, Tensor], drop: Mapping[str, Bool[Tensor, " b"]] | None = None
    ) -> Conditioning:
        """Embed prepared inputs; ``drop`` names, per field, the rows that get the null."""
        parts = [embedder(inputs[name], None if drop is None else drop.get(name)) for name, embedder in self._items()]
        return _join(parts)

    def draw_drop(self, uniform: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, " b"]]:
        """Turn one uniform draw per field and image into the rows to drop, by each embedder's ``dropout``."""
        return {name: uniform[name] < embedder.dropout for name, embedder in self._items()}

    def embed(self, fields: Mapping[str, Sequence[Any]], count: int, device: torch.device) -> Conditioning:
        """Prepare and embed in one call, on ``device``.

        Raises:
            UserError: a field that this model does not know, or one with another number of values than ``count``.
        """
        for name, values in fields.items():
            if name not in self.embedders:
                known = ", ".join(self.fields) or "none: it is unconditional"
                raise UserError(f"this model takes no {name!r} (it takes {known}).{nearest(name, self.fields)}")
            if len(values) != count:
                raise UserError(f"{name}: {len(values)} values for {count} images")
        return self({name: tensor.to(device) for name, tensor in self.prepare(fields, count).items()})

    def _items(self) -> list[tuple[str, Embedder]]:
        return list(self.embedders.items())  # type: ignore[arg-type]


def _join(parts: Sequence[Conditioning]) -> Conditioning:
    def joined(name: str, dim: int) -> Tensor | None:
        tensors = [value for part in parts if (value := getattr(part, name)) is not None]
        return torch.cat(tensors, dim=dim) if tensors else None

    return Conditioning(
        context=joined("context", 1),
        context_mask=joined("context_mask", 1),
        vector=joined("vector", 1),
        label=next((part.label for part in parts if part.label is not None), None),
        concat=joined("concat", 1),
    )
