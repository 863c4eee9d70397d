"""The stages of a chain as functions: each can be stopped and called again, and does only what is left."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from calotype.artifact import Artifact
from calotype.chain.frozen import prepare_frozen
from calotype.chain.source import Source
from calotype.data.fields import FieldReader
from calotype.data.image_set import ImageSet
from calotype.data.latents import LatentLoader, Moments
from calotype.data.loader import Loader
from calotype.data.transforms import Transform
from calotype.encoders import RetrievalIndex
from calotype.pipeline import TrainedAutoencoder, load_autoencoder
from calotype.presets import AutoencoderPreset, DiffusionPreset, TinyDecoderPreset
from calotype.presets.diffusion import GENERATE
from calotype.presets.tasks import Conditions, Task
from calotype.presets.warm_start import warm_start
from calotype.tasks.retrieve import lookups
from calotype.training.autoencoder_recipe import AutoencoderRecipe
from calotype.training.diffusion_recipe import DiffusionRecipe
from calotype.training.encode import encode_latents, store_key
from calotype.training.session import Session
from calotype.training.tiny_decoder_recipe import TinyDecoderRecipe
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils import distributed
from calotype.utils.errors import UserError
from calotype.utils.size import Size, height_width, size_text

log = logging.getLogger("calotype")


def train_autoencoder(
    preset: AutoencoderPreset,
    source: Source,
    sizes: Sequence[Size],
    settings: TrainerConfig,
    *,
    vgg16: str | None = None,
    from_scratch: bool = False,
) -> Path:
    """Train an autoencoder on the source's images, each at the best of ``sizes``; return its last checkpoint.

    Validation, previews and the artifact are at the first size. It starts from the package's general-purpose weights
    where there are any that fit, unless ``from_scratch``. ``vgg16`` is a file of VGG16 weights for the perceptual loss.
    """
    config = preset.recipe(source.train.pixel_format, sizes[0], vgg16)
    for size in sizes:
        check_multiple(size, config.autoencoder.factor, preset.name)
    train = Loader(source.train, Transform(size=sizes[0], more_sizes=tuple(sizes[1:])), settings.seed)
    held_out = loader(source.held_out, sizes[0], settings.seed)
    channels = source.train.pixel_format.channels
    initial = None if from_scratch else warm_start(preset, channels)
    if initial is not None:
        log.info("starts from the general-purpose weights that come with the package (--from-scratch: from none)")
    elif preset.starts_warm(3) and not from_scratch:
        log.info(f"starts from scratch: the weights that come with the package do not fit {channels} channels")
    torch.manual_seed(settings.seed)
    return Trainer(settings).fit(AutoencoderRecipe(config, train, held_out, initial), train)


def train_diffusion(
    preset: DiffusionPreset,
    source: Source,
    autoencoder: Artifact,
    latents: Path,
    settings: TrainerConfig,
    session: Session,
    task: Task = GENERATE,
) -> Path:
    """Encode the source's images (once) and train a diffusion model on the latents; return its last checkpoint.

    Raises:
        UserError: the images lack what ``task`` needs, or are of a size that does not fit.
    """
    first_stage = load_autoencoder(autoencoder)
    conditions = preset.conditions(
        source.train, task, factor=first_stage.model.factor, image_channels=first_stage.pixel_format.channels
    )
    config = preset.recipe(first_stage.model.latent_channels, source.train, conditions)
    multiple = first_stage.model.factor * config.network.factor
    if any(side % multiple for side in height_width(first_stage.size)):
        size = size_text(first_stage.size)
        raise UserError(f"{preset.name} on this autoencoder needs images of a multiple of {multiple} px, not {size}")
    images = loader(source.train.in_format(first_stage.pixel_format), first_stage.size, settings.seed)
    index = prepare_frozen(conditions.conditioner, images, latents.parent, session)
    mirror = preset.method.mirror
    train, held_out = (
        latent_loader(
            autoencoder,
            part,
            latents,
            settings.seed,
            session,
            conditions,
            index,
            mirror=mirror and part is source.train,
        )
        for part in (source.train, source.held_out)
    )
    torch.manual_seed(settings.seed)
    recipe = DiffusionRecipe(config, autoencoder, train, held_out, index)
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
    artifact: Artifact,
    images: ImageSet,
    folder: Path,
    seed: int,
    session: Session,
    conditions: Conditions | None = None,
    index: Path | None = None,
    *,
    mirror: bool = False,
) -> LatentLoader:
    """Return the latents of ``images``, encoding what the store under ``folder`` lacks (on the main process).

    Batches have the fields that the ``conditions`` need, with neighbours from the file ``index``; with ``mirror`` half
    of them are of mirrored images.
    """
    first_stage = load_autoencoder(artifact)
    source = loader(images.in_format(first_stage.pixel_format), first_stage.size, seed)

    def encoded(mirror: bool) -> Moments:
        key = store_key(artifact, source, mirror=mirror)
        if distributed.is_main():
            encode_latents(first_stage.model, source, folder, key, session, mirror=mirror)
        distributed.barrier()
        return encode_latents(first_stage.model, source, folder, key, session, mirror=mirror, quiet=True)

    reader = None
    if conditions is not None:
        names = [embedder.field for embedder in conditions.conditioner.embedders]
        found = None if index is None else RetrievalIndex.load(index)
        looked_up = lookups(conditions.conditioner, found, source, session.device, ahead=True)
        reader = FieldReader(source, names, conditions.derived, looked_up)
    return LatentLoader(encoded(False), images.records, seed, encoded(True) if mirror else None, reader)


def check_pixels(images: ImageSet, autoencoder: TrainedAutoencoder) -> None:
    """Refuse images of other channels or another depth than the autoencoder was trained on.

    Raises:
        UserError: says what both have.
    """
    images.in_format(autoencoder.pixel_format)


def check_multiple(size: Size, multiple: int, name: str) -> None:
    """Refuse a size with a side that is not a multiple of what ``name`` needs.

    Raises:
        UserError: says what it needs.
    """
    if any(side % multiple for side in height_width(size)):
        raise UserError(f"--size must be a multiple of {multiple} for {name}, not {size_text(size)}")


def loader(images: ImageSet, size: Size, seed: int) -> Loader:
    """Return batches of the images' centre crops at ``size``."""
    return Loader(images, Transform(size=size), seed)
