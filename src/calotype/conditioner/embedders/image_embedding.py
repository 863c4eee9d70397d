"""An image as the vector of a frozen image encoder: more images like this one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from calotype.conditioner.embedders.arrays import as_tensor
from calotype.conditioner.embedders.base import FieldConfig, Widths
from calotype.conditioner.embedders.projection import ProjectedVectors, Projection, ProjectionConfig
from calotype.encoders import ImageEncoderConfig
from calotype.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ImageEmbeddingConfig(FieldConfig):
    """A vector of ``width`` numbers, given as such or made of an image by the frozen ``encoder``, as context tokens."""

    kind: Literal["image_embedding"] = "image_embedding"
    field: str = "reference"
    width: int
    encoder: ImageEncoderConfig | None = None
    projection: ProjectionConfig = ProjectionConfig(tokens=4)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.width < 1 or (self.encoder is not None and self.width != self.encoder.channels):
            wanted = "at least 1" if self.encoder is None else f"{self.encoder.channels}, as the encoder's"
            raise ValueError(f"width must be {wanted}, not {self.width}")
        self.check_dropout()

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Tokens and, if pooled, their mean."""
        return self.projection.widths

    def build(self) -> "ImageEmbedding":
        """Make the embedder with fresh weights; the encoder is loaded when the first image comes."""
        return ImageEmbedding(self)


class ImageEmbedding(ProjectedVectors):
    """Fills ``context``, ``context_mask`` and, if pooled, ``vector``.

    A value is an image (c, h, w) in [-1, 1], where there is an encoder, or a vector.
    """

    def __init__(self, config: ImageEmbeddingConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self.count, self.width = 1, config.width
        self.projection = Projection(config.projection, self.width)

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is an image or a vector."""
        return self._fits(value) is not None

    def vectors(self, values: Sequence[Any]) -> Sequence[Tensor]:
        """Return the vector of each image; images of one size are encoded together."""
        found: dict[int, Tensor] = {}
        images: dict[tuple[int, ...], list[tuple[int, Tensor]]] = defaultdict(list)
        for row, value in enumerate(values):
            tensor = self._fits(value)
            if tensor is None:
                what = f"a vector of {self.width} numbers"
                wanted = what if self.config.encoder is None else f"an image (channels, height, width) or {what}"
                raise UserError(f"{self.field} must be {wanted}")
            if tensor.ndim == 1:
                found[row] = tensor[None]
            else:
                images[tuple(tensor.shape)].append((row, tensor))
        for rows in images.values():
            assert self.config.encoder is not None
            encoded = self.config.encoder.build().to(self.device).encode(torch.stack([image for _, image in rows]))
            found.update((row, vector[None]) for (row, _), vector in zip(rows, encoded, strict=True))
        return [found[row] for row in range(len(values))]

    def _fits(self, value: Any) -> Tensor | None:
        tensor = as_tensor(value)
        if tensor is None or not tensor.numel():
            return None
        image = tensor.ndim == 3 and tensor.is_floating_point() and self.config.encoder is not None
        return tensor.float() if image or tensor.shape == (self.width,) else None
