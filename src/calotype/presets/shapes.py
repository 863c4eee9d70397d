"""The shapes of diffusion presets: networks for any latents and conditions, with the text transformer of captions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from calotype.conditioner import ConditionerConfig
from calotype.models import NetworkConfig
from calotype.models.dit import DiTConfig
from calotype.models.unet import UNetConfig


@dataclass(frozen=True, kw_only=True)
class Shape(ABC):
    """A network for any latents and conditions, and the text transformer of those that are captions."""

    text_channels: int = 128
    text_layers: int = 2

    @abstractmethod
    def network(self, latent_channels: int, conditioner: ConditionerConfig) -> NetworkConfig:
        """Return the network for latents of this width, under these conditions."""


@dataclass(frozen=True, kw_only=True)
class UNetShape(Shape):
    """A UNet."""

    channels: int
    channel_multipliers: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 1
    attention_factors: tuple[int, ...] = (1, 2)
    head_channels: int = 32
    space_to_depth: int = 1
    scale_shift_norm: bool = True

    def network(self, latent_channels: int, conditioner: ConditionerConfig) -> UNetConfig:
        """Return the network for latents of this width, under these conditions; a context brings transformers."""
        slots = _slots(conditioner, latent_channels)
        return UNetConfig(
            channels=self.channels,
            channel_multipliers=self.channel_multipliers,
            num_res_blocks=self.num_res_blocks,
            attention_factors=self.attention_factors,
            head_channels=self.head_channels,
            space_to_depth=self.space_to_depth,
            scale_shift_norm=self.scale_shift_norm,
            transformer_depth=0 if slots["context_channels"] is None else 1,
            **slots,
        )


@dataclass(frozen=True, kw_only=True)
class DiTShape(Shape):
    """A diffusion transformer."""

    channels: int
    depth: int
    head_channels: int = 64
    patch_size: int = 2

    def network(self, latent_channels: int, conditioner: ConditionerConfig) -> DiTConfig:
        """Return the network for latents of this width, under these conditions."""
        return DiTConfig(
            channels=self.channels,
            depth=self.depth,
            head_channels=self.head_channels,
            patch_size=self.patch_size,
            **_slots(conditioner, latent_channels),
        )


def _slots(conditioner: ConditionerConfig, latent_channels: int) -> dict[str, Any]:
    """Return what of a network's configuration follows from latents and conditions."""
    widths = conditioner.widths(latent_channels)
    return {
        "in_channels": latent_channels + widths.concat,
        "out_channels": latent_channels,
        "context_channels": widths.context or None,
        "vector_channels": widths.vector or None,
        "num_classes": widths.classes or None,
    }
