"""A small image, brought to the size of the latents of the large one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from calotype.conditioner.embedders.arrays import as_tensor, stack
from calotype.conditioner.embedders.base import Embedder, FieldConfig, Widths
from calotype.diffusion.conditioning import Conditioning
from calotype.utils.errors import UserError


@dataclass(frozen=True, kw_only=True)
class LowResolutionConfig(FieldConfig):
    """An image of ``image_channels`` at 1 / ``factor`` of its size, for latents at 1 / ``autoencoder_factor``.

    Where both are the same it is joined to the latents as it is (Sec. 4.4 of arXiv:2112.10752). Where the image is the
    larger one, s x s of its pixels become channels of one position; where it is the smaller, it is enlarged by bicubic
    interpolation (Pillow's). Nothing is lost in either. The null is an image of ``zeros``, or there is none.
    """

    kind: Literal["low_resolution"] = "low_resolution"
    field: str = "low_resolution"
    factor: int = 4
    image_channels: int = 3
    autoencoder_factor: int = 4
    null: Literal["zeros", "none"] = "none"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("factor", "image_channels", "autoencoder_factor"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.autoencoder_factor % self.factor and self.factor % self.autoencoder_factor:
            raise ValueError(f"factor must divide {self.autoencoder_factor}, or be a multiple of it, not {self.factor}")
        self.check_dropout(null=self.null != "none")

    @property
    def fold(self) -> int:
        """How many pixels of the small image, along each axis, share a position of the latents."""
        return max(1, self.autoencoder_factor // self.factor)

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Return the channels of one position."""
        return Widths(concat=self.image_channels * self.fold**2)

    def build(self) -> "LowResolution":
        """Make the embedder."""
        return LowResolution(self)


class LowResolution(Embedder):
    """Fills ``concat``; has no weights. A value is an image (c, h, w) in [-1, 1]."""

    def __init__(self, config: LowResolutionConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout

    @property
    def has_null(self) -> bool:
        """Whether zeros stand for a missing image."""
        return self.config.null == "zeros"

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is an image of the right channels."""
        return self._fits(value) is not None

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Float[Tensor, "b c h w"]:
        """Stack images; where the ``size`` of the large ones is given, theirs must be 1 / ``factor`` of it."""
        wanted = f"{self.field} must be images of {self.config.image_channels} x height x width in [-1, 1]"
        stacked = stack(values, self._fits, missing=0.0, wanted=wanted)
        if not self.has_null and any(value is None for value in values):
            raise self.missing()
        if stacked is None:
            return self.null(len(values), size)
        height, width = (side * self.config.factor for side in stacked.shape[2:])
        if size is not None and size != (height, width):
            raise UserError(f"{self.field}: these are of images of {width} x {height}, not {size[1]} x {size[0]}")
        return stacked

    def null(self, count: int, size: tuple[int, int] | None = None) -> Float[Tensor, "b c h w"]:
        """Return zeros, 1 / ``factor`` as large as the images."""
        if not self.has_null or size is None:
            raise self.missing()
        return torch.zeros(count, self.config.image_channels, *(side // self.config.factor for side in size))

    def forward(self, inputs: Float[Tensor, "b c h w"], drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Bring images to the size of the latents."""
        if drop is not None and self.has_null:
            inputs = torch.where(drop[:, None, None, None], 0.0, inputs)
        fold, factor = self.config.fold, self.config.factor
        if fold > 1:
            return Conditioning(concat=F.pixel_unshuffle(inputs, fold))
        enlarge = factor // self.config.autoencoder_factor
        if enlarge > 1:
            inputs = F.interpolate(inputs, scale_factor=enlarge, mode="bicubic", antialias=True)
        return Conditioning(concat=inputs)

    def _fits(self, value: Any) -> Tensor | None:
        tensor = as_tensor(value)
        if tensor is None or tensor.ndim != 3 or len(tensor) != self.config.image_channels or not tensor.numel():
            return None
        return tensor.to(torch.promote_types(tensor.dtype, torch.float32)) if tensor.is_floating_point() else None
