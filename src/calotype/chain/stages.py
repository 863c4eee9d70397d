"""The stages of a chain as functions: each can be stopped and called again, and does only what is left."""

from dataclasses import replace
from pathlib import Path

import torch

from calotype.artifact import Artifact
from calotype.chain.source import Source
from calotype.data.image_set import ImageSet
from calotype.data.latents import LatentLoader, Moments
from calotype.data.loader import Loader
from calotype.data.transforms import Transform
from calotype.pipeline import TrainedAutoencoder, load_autoencoder
from calotype.presets import AutoencoderPreset, DiffusionPreset, TinyDecoderPreset
from calotype.training.autoencoder_recipe import AutoencoderRecipe
from calotype.training.diffusion_recipe import DiffusionRecipe
from calotype.training.encode import encode_latents, store_key
from calotype.training.session import Session
from calotype.training.tiny_decoder_recipe import TinyDecoderRecipe
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils import distributed
from calotype.utils.errors import UserError


def train_autoencoder(
    preset: AutoencoderPreset, source: Source, size: int, settings: TrainerConfig, vgg16: str | None = None
) -> Path:
    """Train an autoencoder on the source's images at ``size`` px; return its last checkpoint.

    ``vgg16`` is a file of VGG16 weights for the perceptual loss.
    """
    config = preset.recipe(source.train.pixel_format, size, vgg16)
    if size % config.autoencoder.factor:
        raise UserError(f"--size must be a multiple of {config.autoencoder.factor} for {preset.name}, not {size}")
    train, held_out = loader(source.train, size, settings.seed), loader(source.held_out, size, settings.seed)
    torch.manual_seed(settings.seed)
    return Trainer(settings).fit(AutoencoderRecipe(config, train, held_out), train)


def train_diffusion(
    preset: DiffusionPreset,
    source: Source,
    autoencoder: Artifact,
    latents: Path,
    settings: TrainerConfig,
    session: Session,
) -> Path:
    """Encode the source's images (once) and train a diffusion model on the latents; return its last checkpoint."""
    first_stage = load_autoencoder(autoencoder)
    config = preset.recipe(first_stage.model.latent_channels, source.train)
    multiple = first_stage.model.factor * config.network.factor
    if first_stage.size % multiple:
        raise UserError(
            f"{preset.name} on this autoencoder needs images of a multiple of {multiple} px, not {first_stage.size}"
        )
    train = latent_loader(autoencoder, source.train, latents, settings.seed, session, mirror=preset.method.mirror)
    held_out = latent_loader(autoencoder, source.held_out, latents, settings.seed, session)
    torch.manual_seed(settings.seed)
    recipe = DiffusionRecipe(config, autoencoder, train, held_out)
    return Trainer(replace(settings, ema=preset.method.ema)).fit(recipe, train)


def train_tiny_decoder(
    preset: TinyDecoderPreset, source: Source, autoencoder: Artifact, settings: TrainerConfig
) -> Path:
    """Distil a tiny decoder from an autoencoder, alone or inside a diffusion model; return its last checkpoint.

    Raises:
        UserError: the artifact holds no autoencoder, or the images are not of its kind.
    """
    if "autoencoder" not in autoencoder.config:
        raise UserError(f"{autoencoder.folder} holds no autoencoder to imitate")
    first_stage = load_autoencoder(autoencoder)
    model, pixel_format = first_stage.model, first_stage.pixel_format
    config = preset.recipe(model.factor, model.latent_channels, pixel_format.channels)
    train, held_out = (
        loader(images.in_format(pixel_format), first_stage.size, settings.seed)
        for images in (source.train, source.held_out)
    )
    torch.manual_seed(settings.seed)
    return Trainer(settings).fit(TinyDecoderRecipe(config, autoencoder, train, held_out), train)


def latent_loader(
    artifact: Artifact, images: ImageSet, folder: Path, seed: int, session: Session, *, mirror: bool = False
) -> LatentLoader:
    """Return the latents of ``images``, encoding what the store under ``folder`` lacks (on the main process).

    ``mirror``: and those of the mirrored images.
    """
    first_stage = load_autoencoder(artifact)
    source = loader(images.in_format(first_stage.pixel_format), first_stage.size, seed)

    def encoded(mirror: bool) -> Moments:
        key = store_key(artifact, source, mirror=mirror)
        if distributed.is_main():
            encode_latents(first_stage.model, source, folder, key, session, mirror=mirror)
        distributed.barrier()
        return encode_latents(first_stage.model, source, folder, key, session, mirror=mirror, quiet=True)

    return LatentLoader(encoded(False), images.records, seed, encoded(True) if mirror else None)


def check_pixels(images: ImageSet, autoencoder: TrainedAutoencoder) -> None:
    """Refuse images of other channels or another depth than the autoencoder was trained on.

    Raises:
        UserError: says what both have.
    """
    images.in_format(autoencoder.pixel_format)


def loader(images: ImageSet, size: int, seed: int) -> Loader:
    """Return batches of the images' centre squares at ``size`` px."""
    return Loader(images, Transform(size=size), seed)
