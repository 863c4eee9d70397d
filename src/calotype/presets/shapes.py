"""The shapes of diffusion presets: networks for any latents and conditions, with the text transformer of captions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from calotype.conditioner import ConditionerConfig, LabelEmbedderConfig, TextEmbedderConfig
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
        slots = _slots(conditioner)
        return UNetConfig(
            in_channels=latent_channels,
            out_channels=latent_channels,
            channels=self.channels,
            channel_multipliers=self.channel_multipliers,
            num_res_blocks=self.num_res_blocks,
            attention_factors=self.attention_factors,
            head_channels=self.head_channels,
            space_to_depth=self.space_to_depth,
            scale_shift_norm=self.scale_shift_norm,
            transformer_depth=1 if "context_channels" in slots else 0,
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
            in_channels=latent_channels,
            out_channels=latent_channels,
            channels=self.channels,
            depth=self.depth,
            head_channels=self.head_channels,
            patch_size=self.patch_size,
            **_slots(conditioner),
        )


def _slots(conditioner: ConditionerConfig) -> dict[str, Any]:
    slots: dict[str, Any] = {}
    for embedder in conditioner.embedders:
        if isinstance(embedder, TextEmbedderConfig):
            slots["context_channels"] = embedder.channels
            slots |= {"vector_channels": embedder.channels} if embedder.pooled else {}
        elif isinstance(embedder, LabelEmbedderConfig):
            slots["num_classes"] = len(embedder.classes) + 1
    return slots
