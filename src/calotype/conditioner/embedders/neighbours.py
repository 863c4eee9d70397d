"""The nearest images of a data base, as their vectors: retrieval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from calotype.conditioner.embedders.arrays import as_tensor
from calotype.conditioner.embedders.base import FieldConfig, Widths
from calotype.conditioner.embedders.projection import ProjectedVectors, Projection, ProjectionConfig
from calotype.encoders import ImageEncoderConfig
from calotype.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class NeighboursConfig(FieldConfig):
    """Up to ``count`` vectors of ``width`` numbers as context tokens (arXiv:2204.11824), which have no order.

    ``encoder`` names the network that the vectors are of, where it is known: an index of another is refused.
    """

    kind: Literal["neighbours"] = "neighbours"
    field: str = "neighbours"
    count: int = 4
    width: int
    encoder: ImageEncoderConfig | None = None
    projection: ProjectionConfig = ProjectionConfig()
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("count", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.encoder is not None and self.width != self.encoder.channels:
            raise ValueError(f"width must be {self.encoder.channels}, as the encoder's, not {self.width}")
        self.check_dropout()

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Tokens and, if pooled, their mean."""
        return self.projection.widths

    def build(self) -> "Neighbours":
        """Make the embedder with fresh weights."""
        return Neighbours(self)


class Neighbours(ProjectedVectors):
    """Fills ``context``, ``context_mask`` and, if pooled, ``vector``. A value is a tensor (k, width), k may be 0."""

    def __init__(self, config: NeighboursConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self.count, self.width = config.count, config.width
        self.projection = Projection(config.projection, self.width)

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` holds few enough vectors of the right width."""
        return self._fits(value) is not None

    def vectors(self, values: Sequence[Any]) -> Sequence[Tensor]:
        """Return the vectors as they are, in float32."""
        fitted = [self._fits(value) for value in values]
        if any(tensor is None for tensor in fitted):
            raise UserError(f"{self.field} must be at most {self.count} vectors of {self.width} numbers")
        return [tensor for tensor in fitted if tensor is not None]

    def _fits(self, value: Any) -> Tensor | None:
        tensor = as_tensor(value)
        if tensor is None or tensor.ndim != 2 or len(tensor) > self.count or tensor.shape[1] != self.width:
            return None
        return tensor.float()
