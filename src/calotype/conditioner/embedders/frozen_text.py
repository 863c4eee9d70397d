"""Captions as the states of a frozen text encoder, projected by layers that are trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from calotype.conditioner.embedders.base import FieldConfig, Widths
from calotype.conditioner.embedders.projection import ProjectedVectors, Projection, ProjectionConfig
from calotype.encoders import TextEncoderConfig
from calotype.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FrozenTextEmbedderConfig(FieldConfig):
    """A caption as ``encoder.length`` context tokens. The encoder is named, not stored, and its weights are checked."""

    kind: Literal["frozen_text"] = "frozen_text"
    field: str = "caption"
    encoder: TextEncoderConfig
    projection: ProjectionConfig = ProjectionConfig(layers=1)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        self.check_dropout()

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Tokens and, if pooled, their mean."""
        return self.projection.widths

    def build(self) -> "FrozenTextEmbedder":
        """Make the embedder with fresh weights; the encoder is loaded when the first caption comes."""
        return FrozenTextEmbedder(self)


class FrozenTextEmbedder(ProjectedVectors):
    """Fills ``context``, ``context_mask`` and, if pooled, ``vector``; an empty caption is the null."""

    def __init__(self, config: FrozenTextEmbedderConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self.count, self.width = config.encoder.length, config.encoder.channels
        self.projection = Projection(config.projection, self.width)

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is text."""
        return isinstance(value, str)

    def vectors(self, values: Sequence[Any]) -> Sequence[Tensor]:
        """Return the states of the tokens of each caption, none of an empty one."""
        for value in values:
            if not self.takes(value):
                raise UserError(f"{self.field} must be text, not {type(value).__name__}: {value!r}")
        said = [value for value in values if value.strip()]
        states = iter(self._states(said) if said else [])
        nothing = self.null(1)[0, :0, :-1]
        return [next(states) if value.strip() else nothing for value in values]

    def _states(self, texts: Sequence[str]) -> list[Tensor]:
        states, mask = self.config.encoder.build().to(self.device).encode(texts)
        return [state[seen] for state, seen in zip(states, mask, strict=True)]
