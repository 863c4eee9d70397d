"""Tiny decoder presets: how large a preview's decoder is for the autoencoder that it imitates."""

from dataclasses import dataclass

from calotype.models.tiny_decoder import TinyDecoderConfig
from calotype.training.optimiser import OptimiserConfig
from calotype.training.tiny_decoder_recipe import TinyDecoderRecipeConfig


@dataclass(frozen=True, kw_only=True)
class TinyDecoderPreset:
    """A row. ``widths`` are counted from the largest feature map inwards; the last serves all levels beyond."""

    name: str
    summary: str
    reproduces: str
    widths: tuple[int, ...]
    blocks: int
    learning_rate: float
    batch_size: int
    warmup_samples: int = 800

    stage = "tiny_decoder"

    def recipe(self, factor: int, latent_channels: int, image_channels: int) -> TinyDecoderRecipeConfig:
        """Return the recipe for an autoencoder of this factor and these channels."""
        unfold = _depth_to_space(factor)
        levels = (factor // unfold).bit_length()
        inwards = [self.widths[min(level, len(self.widths) - 1)] for level in range(levels)]
        return TinyDecoderRecipeConfig(
            decoder=TinyDecoderConfig(
                latent_channels=latent_channels,
                image_channels=image_channels,
                widths=tuple(reversed(inwards)),
                blocks=self.blocks,
                depth_to_space=unfold,
            ),
            optimiser=OptimiserConfig(learning_rate=self.learning_rate, warmup_samples=self.warmup_samples),
        )


def _depth_to_space(factor: int) -> int:
    """Return how many pixels a side the last features unfold into: 2, or the odd part of ``factor`` if it has one."""
    odd = factor // (factor & -factor)
    return odd if odd > 1 else min(2, factor)


TINY_DECODERS: dict[str, TinyDecoderPreset] = {
    preset.name: preset
    for preset in (
        TinyDecoderPreset(
            name="tiny-decoder",
            summary="live previews of an autoencoder's latents, 0.1 M parameters; minutes on a CPU",
            reproduces="",
            widths=(32, 48, 64),
            blocks=1,
            learning_rate=4e-3,
            batch_size=8,
        ),
        TinyDecoderPreset(
            name="tiny-decoder-large",
            summary="the same for autoencoders of natural images, 0.5 M (f4) to 0.75 M (f8) parameters; for GPUs",
            reproduces="",
            widths=(64,),
            blocks=3,
            learning_rate=1e-3,
            batch_size=32,
        ),
    )
}
