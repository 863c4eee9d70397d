"""Maps of classes (or any images) at the latents' size, as the reference's semantic synthesis sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calotype.conditioner.embedders.arrays import as_tensor, stack
from calotype.conditioner.embedders.base import Embedder, FieldConfig, Widths
from calotype.diffusion.conditioning import Conditioning


@dataclass(frozen=True, kw_only=True)
class SpatialRescalerConfig(FieldConfig):
    """``stages`` times an interpolation by ``multiplier``, then a 1x1 convolution to ``out_channels`` if given.

    ``method`` is one of torch's interpolations; ``linear`` and ``trilinear`` are those of sequences and volumes. The
    null is ``zeros``, or there is none.
    """

    kind: Literal["spatial_rescaler"] = "spatial_rescaler"
    field: str = "segmentation"
    in_channels: int = 3
    stages: int = 1
    method: Literal["nearest", "linear", "bilinear", "trilinear", "bicubic", "area"] = "bilinear"
    multiplier: float = 0.5
    out_channels: int | None = None
    bias: bool = False
    null: Literal["zeros", "none"] = "zeros"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.stages < 0 or self.multiplier <= 0:
            raise ValueError(f"stages and multiplier must be positive, not {self.stages} and {self.multiplier}")
        if self.bias and self.out_channels is None:
            raise ValueError("bias is that of the convolution to out_channels, which are not given")
        self.check_dropout(null=self.null != "none")

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Return the channels after the mapping."""
        return Widths(concat=self.out_channels or self.in_channels)

    def build(self) -> "SpatialRescaler":
        """Make the embedder with fresh weights."""
        return SpatialRescaler(self)


class SpatialRescaler(Embedder):
    """Fills ``concat``; state-dict keys ``channel_mapper.*`` as in the reference.

    Values are maps (in_channels, h, w), or integer labels (h, w) that become one channel per class; -1 is none of them.
    """

    def __init__(self, config: SpatialRescalerConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        if config.out_channels is not None:
            self.channel_mapper = nn.Conv2d(config.in_channels, config.out_channels, 1, bias=config.bias)

    @property
    def has_null(self) -> bool:
        """Whether zeros stand for a missing map."""
        return self.config.null == "zeros"

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is a map or an image of labels."""
        return self._fits(value) is not None

    def prepare(
        self, values: Sequence[Any], size: tuple[int, int] | None = None
    ) -> Int[Tensor, "b h w"] | Float[Tensor, "b c h w"]:
        """Stack maps as floats, or labels as integers; a missing value has the label -1, which is no class."""
        if not self.has_null and any(value is None for value in values):
            raise self.missing()
        channels = self.config.in_channels
        wanted = (
            f"{self.field} must be maps of {channels} x height x width or integers 0..{channels - 1} (height x width)"
        )
        labels = any((tensor := as_tensor(value)) is not None and tensor.ndim == 2 for value in values)
        stacked = stack(values, self._fits, missing=-1.0 if labels else 0.0, wanted=wanted)
        return self.null(len(values), size) if stacked is None else stacked

    def null(self, count: int, size: tuple[int, int] | None = None) -> Float[Tensor, "b c h w"]:
        """Return maps of no class, as large as the images."""
        if not self.has_null or size is None:
            raise self.missing()
        return torch.zeros(count, self.config.in_channels, *size)

    def forward(
        self, inputs: Int[Tensor, "b h w"] | Float[Tensor, "b c h w"], drop: Bool[Tensor, " b"] | None = None
    ) -> Conditioning:
        """Rescale maps to the size of the latents."""
        maps = self._one_hot(inputs) if inputs.ndim == 3 else inputs
        if self.config.out_channels is not None:
            maps = maps.to(self.channel_mapper.weight.dtype)
        if drop is not None and self.has_null:
            maps = torch.where(drop[:, None, None, None], 0.0, maps)
        return Conditioning(concat=self.rescale(maps))

    def rescale(self, maps: Float[Tensor, "b c *n"]) -> Float[Tensor, "b d *m"]:
        """Interpolate and map channels; sequences and volumes are taken, too."""
        for _ in range(self.config.stages):
            maps = F.interpolate(maps, scale_factor=self.config.multiplier, mode=self.config.method)
        return maps if self.config.out_channels is None else self.channel_mapper(maps)

    def _one_hot(self, labels: Int[Tensor, "b h w"]) -> Float[Tensor, "b c h w"]:
        classes = torch.arange(self.config.in_channels, device=labels.device)
        return (labels[:, None] == classes[:, None, None]).float()

    def _fits(self, value: Any) -> Tensor | None:
        tensor, channels = as_tensor(value), self.config.in_channels
        if tensor is None or not tensor.numel():
            return None
        if tensor.ndim == 2 and not tensor.is_floating_point():
            return tensor.long() if -1 <= int(tensor.min()) <= int(tensor.max()) < channels else None
        maps = tensor.ndim == 3 and len(tensor) == channels
        return tensor.to(torch.promote_types(tensor.dtype, torch.float32)) if maps else None
