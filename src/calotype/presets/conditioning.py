"""Which embedder the values of a field call for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from calotype.conditioner import (
    BERTEmbedderConfig,
    BoxesConfig,
    ClassEmbedderConfig,
    EncodedImageConfig,
    FieldConfig,
    ImageEmbeddingConfig,
    LabelEmbedderConfig,
    LayoutConfig,
    LowResolutionConfig,
    NeighboursConfig,
    PassThroughConfig,
    ProjectionConfig,
    SpatialRescalerConfig,
)
from calotype.conditioner.embedders.tokenizer import build_vocabulary
from calotype.data.attachments import FieldFile
from calotype.data.image_set import ImageSet
from calotype.encoders import describe_image_encoder
from calotype.encoders.image import EFFICIENTNET
from calotype.presets.text import WORDS, text_embedder
from calotype.utils.errors import UserError

MAX_CLASSES = 1_000
MOST_OBJECTS = 30
DROPOUT = 0.1
MAP_CHANNELS = 16


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What embedders must fit: width and depth of text, and how many pixels of how many channels make a latent.

    ``text`` says how captions are read (``presets/text.py:text_embedder``), ``encoder`` what sees images, ``upscaling``
    is the factor between low-resolution images and those that are drawn, and with ``box_tokens`` boxes are the paper's
    discrete tokens, else continuous ones.
    """

    channels: int
    layers: int
    factor: int
    image_channels: int
    upscaling: int = 4
    box_tokens: bool = False
    text: str = WORDS
    encoder: str = EFFICIENTNET


def plain_conditions(images: ImageSet) -> tuple[str, ...]:
    """Return what images are drawn of unless asked otherwise: captions, else classes (2 to 1,000), else nothing."""
    if build_vocabulary(each.fields.get("caption") or "" for each in images.records):
        return ("caption",)
    if "class" in images.field_names and 2 <= len(_distinct(images, "class")) <= MAX_CLASSES:
        return ("class",)
    return ()


def embedder_for(name: str, images: ImageSet, setting: Setting) -> FieldConfig:
    """Return the configuration of an embedder for field ``name`` of these images.

    Raises:
        UserError: its values cannot condition a model.
    """
    if name in _EMBEDDERS:
        return _EMBEDDERS[name](images, setting)
    value = next((each.fields[name] for each in images.records if each.fields.get(name) is not None), None)
    if isinstance(value, FieldFile):
        return _file(name, images, setting)
    if isinstance(value, list):
        return PassThroughConfig(field=name, slot="vector", channels=len(value), dropout=DROPOUT)
    names = _distinct(images, name)
    if not 2 <= len(names) <= MAX_CLASSES:
        raise UserError(f"{name!r} has {len(names)} different values; a condition needs 2 to {MAX_CLASSES} of them")
    classes = (*names, "")
    return ClassEmbedderConfig(
        field=name, classes=classes, channels=setting.channels, null_class=len(names), dropout=DROPOUT
    )


def _caption(images: ImageSet, setting: Setting) -> FieldConfig:
    embedder = text_embedder(images, setting.text, channels=setting.channels, layers=setting.layers)
    if embedder is None:
        raise UserError(f"the captions of {images.source} have no words")
    return embedder


def _class(images: ImageSet, setting: Setting) -> FieldConfig:  # noqa: ARG001
    return LabelEmbedderConfig(classes=_distinct(images, "class"))


def _boxes(images: ImageSet, setting: Setting) -> FieldConfig:
    layouts = [each.fields.get("boxes") or () for each in images.records]
    classes = tuple(sorted({str(item["class"]) for layout in layouts for item in layout}))
    most = min(MOST_OBJECTS, max(map(len, layouts), default=1))
    if not setting.box_tokens:
        return BoxesConfig(
            classes=classes, channels=setting.channels, max_objects=most, map_channels=MAP_CHANNELS, dropout=DROPOUT
        )
    tokens = LayoutConfig(classes=classes, max_objects=most, tokens=max(4096, len(classes) + 1), encode_crop=False)
    return BERTEmbedderConfig(
        field="boxes",
        vocabulary_size=tokens.tokens,
        length=tokens.length,
        channels=setting.channels,
        layers=setting.layers,
        tokens=tokens,
        dropout=DROPOUT,
    )


def _segmentation(images: ImageSet, setting: Setting) -> FieldConfig:
    """Return a palette to be learned: one-hot maps, averaged over a latent's pixels, then mixed to few channels."""
    highest = max((_highest(images, index) for index in range(len(images))), default=0)
    return SpatialRescalerConfig(
        in_channels=highest + 1,
        stages=1,
        multiplier=1 / setting.factor,
        method="area",
        out_channels=min(highest + 1, MAP_CHANNELS),
        dropout=DROPOUT,
    )


def _highest(images: ImageSet, index: int) -> int:
    labels = images.value(index, "segmentation")
    return 0 if labels is None else int(np.max(labels, initial=0))


def _masked_image(images: ImageSet, setting: Setting) -> FieldConfig:  # noqa: ARG001
    return EncodedImageConfig(null="none")


def _low_resolution(images: ImageSet, setting: Setting) -> FieldConfig:  # noqa: ARG001
    return LowResolutionConfig(
        factor=setting.upscaling, image_channels=setting.image_channels, autoencoder_factor=setting.factor
    )


def _reference(images: ImageSet, setting: Setting) -> FieldConfig:  # noqa: ARG001
    encoder = describe_image_encoder(setting.encoder, download=True)
    projection = ProjectionConfig(channels=setting.channels, tokens=4)
    return ImageEmbeddingConfig(width=encoder.channels, encoder=encoder, projection=projection)


def _neighbours(images: ImageSet, setting: Setting) -> FieldConfig:  # noqa: ARG001
    encoder = describe_image_encoder(setting.encoder, download=True)
    projection = ProjectionConfig(channels=setting.channels)
    return NeighboursConfig(width=encoder.channels, encoder=encoder, projection=projection)


def _file(name: str, images: ImageSet, setting: Setting) -> FieldConfig:
    """Return the embedder of a field in files: arrays are vectors or tokens, all else are images of the same place."""
    having = [i for i, each in enumerate(images.records) if each.fields.get(name) is not None]
    value = images.value(having[0], name)
    if value.ndim == 3:
        return LowResolutionConfig(
            field=name,
            factor=max(1, round(images.extent(having[0])[0] / value.shape[0])),
            image_channels=setting.image_channels,
            autoencoder_factor=setting.factor,
            null="zeros",
            dropout=DROPOUT,
        )
    slot: Any = "vector" if value.ndim == 1 else "context"
    return PassThroughConfig(field=name, slot=slot, channels=value.shape[-1], dropout=DROPOUT)


_EMBEDDERS: dict[str, Callable[[ImageSet, Setting], FieldConfig]] = {
    "caption": _caption,
    "class": _class,
    "boxes": _boxes,
    "segmentation": _segmentation,
    "low_resolution": _low_resolution,
    "masked_image": _masked_image,
    "reference": _reference,
    "neighbours": _neighbours,
}


def _distinct(images: ImageSet, name: str) -> tuple[str, ...]:
    return tuple(sorted({str(value) for each in images.records if (value := each.fields.get(name)) is not None}))
