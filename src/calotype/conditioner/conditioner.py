"""A set of embedders, one per field, whose outputs join into one Conditioning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from calotype.conditioner.embedders import (  # noqa: F401 (their kinds are known once they are imported)
    bert,
    boxes,
    class_token,
    encoded_image,
    frozen_text,
    image_embedding,
    low_resolution,
    neighbours,
    pass_through,
    spatial_rescaler,
    text,
)
from calotype.conditioner.embedders.base import Embedder, EmbedderConfig, Widths
from calotype.conditioner.embedders.label import LabelEmbedderConfig
from calotype.diffusion.conditioning import Conditioning
from calotype.models.autoencoder import Autoencoder
from calotype.utils.config import Config
from calotype.utils.errors import UserError, nearest
from calotype.utils.seeds import seed_of

Fields = Mapping[str, Any]
"""One value per image for each field, by its name: a list, or a tensor or array with one row per image."""


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
        if len(widths := {width for embedder in self.embedders if (width := embedder.context_channels)}) > 1:
            raise ValueError(f"embedders: those that make tokens must have the same channels, not {sorted(widths)}")

    def widths(self, latent_channels: int) -> Widths:
        """Return what a network for latents of this width must take: tokens of one width, vectors and images joined."""
        each = [embedder.widths(latent_channels) for embedder in self.embedders]
        return Widths(
            context=max((widths.context for widths in each), default=0),
            vector=sum(widths.vector for widths in each),
            concat=sum(widths.concat for widths in each),
            classes=max((widths.classes for widths in each), default=0),
        )

    def build(self) -> "Conditioner":
        """Make the conditioner with fresh weights."""
        return Conditioner(self)


class Conditioner(nn.Module):
    """Fields of the data to one ``Conditioning``: tokens, vectors and images are each joined, at most one label.

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

    @property
    def has_null(self) -> bool:
        """Whether an embedder knows a null, without which there is no guidance."""
        return any(embedder.has_null for _, embedder in self._items())

    def attach(self, autoencoder: Autoencoder) -> None:
        """Hand the model's autoencoder to the embedders that see images through it; it does not become a part."""
        for _, embedder in self._items():
            embedder.attach(autoencoder)

    def known(self, fields: Fields) -> dict[str, Any]:
        """Return those ``fields`` that condition the model, with None for values that it cannot take (a new class)."""
        return {
            name: [value if embedder.takes(value) else None for value in fields[name]]
            for name, embedder in self._items()
            if name in fields
        }

    def prepare(self, fields: Fields, count: int, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """Map field values (one per image; a missing field is null everywhere) to tensors on the CPU.

        ``size`` is the (height, width) of the images, without which there is no null for fields that are images.

        Raises:
            UserError: a value that its embedder cannot take, or a missing one where there is no null.
        """
        return {
            name: embedder.prepare(list(fields[name]), size) if name in fields else embedder.null(count, size)
            for name, embedder in self._items()
        }

    def prepare_training(
        self,
        fields: Fields,
        count: int,
        key: Sequence[tuple[int | str, ...]],
        size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        """Like ``prepare``, after varying every value by a generator that depends on the image's ``key`` alone."""
        varied: dict[str, list[Any]] = {}
        for name, embedder in self._items():
            values = fields.get(name, [None] * count)
            others = [{other: fields[other][row] for other in fields} for row in range(count)]
            randoms = [Random(seed_of(name, *row_key)) for row_key in key]
            varied[name] = [embedder.augment(*row) for row in zip(values, others, randoms, strict=True)]
        return self.prepare(varied, count, size)

    def forward(
        self, inputs: Mapping[str, Tensor], drop: Mapping[str, Bool[Tensor, " b"]] | None = None
    ) -> Conditioning:
        """Embed prepared inputs; ``drop`` names, per field, the rows that get the null."""
        parts = [embedder(inputs[name], None if drop is None else drop.get(name)) for name, embedder in self._items()]
        return _join(parts)

    def draw_drop(self, uniform: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, " b"]]:
        """Turn one uniform draw per field and image into the rows to drop, by each embedder's ``dropout``."""
        return {name: uniform[name] < embedder.dropout for name, embedder in self._items()}

    def embed(
        self, fields: Fields, count: int, device: torch.device, size: tuple[int, int] | None = None
    ) -> Conditioning:
        """Prepare and embed in one call, on ``device``.

        Raises:
            UserError: a field that this model does not know, or one with another number of values than ``count``; or
                as ``prepare``.
        """
        return self(self._inputs(fields, count, device, size))

    def embed_null(
        self, fields: Fields, count: int, device: torch.device, size: tuple[int, int] | None = None
    ) -> Conditioning:
        """Return what guidance compares ``embed`` with: the null of every embedder that has one.

        Those without keep their condition, and images have the size of those in ``fields``.

        Raises:
            UserError: no embedder has a null; or as ``embed``.
        """
        if self.fields and not self.has_null:
            raise UserError(f"this model was trained without a null for {self.fields[0]!r}: guidance must be 1")
        every = torch.ones(count, dtype=torch.bool, device=device)
        return self(self._inputs(fields, count, device, size), dict.fromkeys(self.fields, every))

    def _inputs(
        self, fields: Fields, count: int, device: torch.device, size: tuple[int, int] | None
    ) -> dict[str, Tensor]:
        for name, values in fields.items():
            if name not in self.embedders:
                known = ", ".join(self.fields) or "none: it is unconditional"
                raise UserError(f"this model takes no {name!r} (it takes {known}).{nearest(name, self.fields)}")
            if len(values) != count:
                raise UserError(f"{name}: {len(values)} values for {count} images")
        return {name: tensor.to(device) for name, tensor in self.prepare(fields, count, size).items()}

    def _items(self) -> list[tuple[str, Embedder]]:
        return list(self.embedders.items())  # type: ignore[arg-type]


def _join(parts: Sequence[Conditioning]) -> Conditioning:
    def joined(name: str, dim: int) -> Tensor | None:
        tensors = [value for part in parts if (value := getattr(part, name)) is not None]
        return torch.cat(tensors, dim=dim) if tensors else None

    return Conditioning(
        context=joined("context", 1),
        context_mask=_joined_masks(parts),
        vector=joined("vector", 1),
        label=next((part.label for part in parts if part.label is not None), None),
        concat=joined("concat", 1),
    )


def _joined_masks(parts: Sequence[Conditioning]) -> Tensor | None:
    """Join the masks of the tokens; those of an embedder without a mask are all seen."""
    if all(part.context_mask is None for part in parts):
        return None
    tokens = [(part.context, part.context_mask) for part in parts if part.context is not None]
    seen = [torch.ones_like(context[:, :, 0], dtype=torch.bool) if mask is None else mask for context, mask in tokens]
    return torch.cat(seen, dim=1)
