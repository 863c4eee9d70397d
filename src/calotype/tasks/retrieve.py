"""Retrieval: images drawn with their nearest neighbours in a data base at hand (arXiv:2204.11824)."""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calotype.conditioner import ConditionerConfig, NeighboursConfig
from calotype.data.fields import Lookup
from calotype.data.image_set import ImageSet, Record
from calotype.data.loader import Loader
from calotype.encoders import Contents, ImageEncoderConfig, RetrievalIndex, TextEncoderConfig, describe_text_encoder
from calotype.encoders.pretrained import architecture, folder_of
from calotype.pipeline import LatentDiffusion
from calotype.utils.errors import UserError
from calotype.utils.progress import progress

_BLOCK = 256


@dataclass(frozen=True)
class Retrieved:
    """Images, and for each the rows of the index whose vectors it was drawn with, nearest first."""

    images: Float[Tensor, "n c h w"]
    rows: list[list[int]]


def retrieve(
    model: LatentDiffusion,
    *,
    captions: Sequence[str] | None = None,
    images: Float[Tensor, "n c h w"] | None = None,
    index: RetrievalIndex | None = None,
    count: int | None = None,
    seeds: Sequence[int],
    **options: Any,
) -> Retrieved:
    """Draw an image for each caption or image (give one of the two) with its nearest neighbours in ``index``.

    ``index`` is that of the images that the model was trained on unless another is given: what it knows can be replaced
    without training. ``count`` neighbours are looked for, by default as many as in training. ``options`` are those of
    ``sample``.

    Raises:
        UserError: the model was not trained to, the index was made by another encoder, or as ``sample``.
    """
    embedder = neighbours_embedder(model.conditioner.config)
    index = model.index if index is None else index
    if embedder is None or index is None:
        raise UserError("this model looks for no neighbours: train one with --task retrieve")
    check_index(index, embedder)
    count = embedder.count if count is None else count
    if not 1 <= count <= embedder.count:
        raise UserError(f"this model was trained with {embedder.count} neighbours: ask for 1 to {embedder.count}")
    if (captions is None) == (images is None):
        raise UserError("give either captions or images to look for")
    if captions is not None:
        rows = index.nearest_to(captions, count)
    else:
        assert images is not None
        rows = index.nearest(index.contents.encoder.build().to(model.device).encode(images), count)
    vectors = [index.take(each) for each in rows]
    return Retrieved(model.sample(seeds=seeds, **{embedder.field: vectors, **options}), rows)


def build_index(
    loader: Loader,
    encoder: ImageEncoderConfig,
    text: TextEncoderConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> RetrievalIndex:
    """Encode all images, and by ``text`` their captions, with a progress bar.

    Raises:
        UserError: an encoder is not there, or cannot take these images.
    """
    records = loader.images.records
    contents = Contents(
        source=loader.images.source,
        fingerprint=loader.images.fingerprint,
        size=loader.transform.size,
        names=tuple(record.name for record in records),
        groups=tuple(_group(record) for record in records),
        captions=tuple(_caption(record) for record in records),
        encoder=encoder,
        text=text,
    )
    with progress("image vectors", len(loader), quiet=quiet) as bar:
        parts = []
        for start in range(0, len(loader), _BLOCK):
            parts.append(_vectors(loader, range(start, min(start + _BLOCK, len(loader))), encoder, device))
            bar.advance(len(parts[-1]))
    captions = (
        None if text is None or contents.shares_space else _caption_vectors(contents.captions, text, device, quiet)
    )
    return RetrievalIndex(contents, torch.cat(parts), captions)


def text_encoder_for(images: ImageSet, encoder: ImageEncoderConfig) -> TextEncoderConfig | None:
    """Return what words can be looked for by: the encoder's own text half, else MiniLM in the captions, if at hand."""
    if encoder.is_folder and architecture(folder_of(encoder.source)) == "clip":
        return describe_text_encoder(encoder.source)
    if not any(_caption(record) for record in images.records):
        return None
    try:
        return describe_text_encoder()
    except UserError:
        return None


def lookups(
    conditioner: ConditionerConfig,
    index: RetrievalIndex | None,
    loader: Loader,
    device: torch.device | str = "cpu",
    *,
    ahead: bool = False,
) -> dict[str, Lookup]:
    """Return what looks up the neighbours of the loader's images, for a conditioner that wants them and an index.

    They are found when they are first asked for, or, with a progress bar, ``ahead``.
    """
    embedder = neighbours_embedder(conditioner)
    if embedder is None or index is None:
        return {}
    lookup = _NeighbourLookup(index, embedder.count, loader, device)
    if ahead:
        with progress("neighbours", len(loader)) as bar:
            for start in range(0, len(loader), _BLOCK):
                lookup(start)
                bar.advance(min(_BLOCK, len(loader) - start))
    return {embedder.field: lookup}


def neighbours_embedder(conditioner: ConditionerConfig) -> NeighboursConfig | None:
    """Return the embedder that takes the vectors of neighbours, if there is one."""
    return next((each for each in conditioner.embedders if isinstance(each, NeighboursConfig)), None)


def check_index(index: RetrievalIndex, embedder: NeighboursConfig) -> None:
    """Refuse an index whose vectors are not those that ``embedder`` was trained on.

    Raises:
        UserError: names the two encoders.
    """
    made, wanted = index.contents.encoder, embedder.encoder
    if wanted is not None and made.fingerprint != wanted.fingerprint:
        raise UserError(f"this index was made by {made.source}, but the model was trained with {wanted.source}")


class _NeighbourLookup:
    """The neighbours' vectors of each image, never itself nor one of its group; found for 256 images at a time.

    It is called in the loader's threads, and so reads images one by one.
    """

    def __init__(self, index: RetrievalIndex, count: int, loader: Loader, device: torch.device | str) -> None:
        self.index, self.count, self.loader, self.device = index, count, loader, device
        own = index.contents.source == loader.images.source and index.contents.size == loader.transform.size
        self.row_of = {name: row for row, name in enumerate(index.contents.names)} if own else {}
        self.found: dict[int, list[list[int]]] = {}
        self.lock = Lock()

    def __call__(self, number: int) -> Float[Tensor, "k d"]:
        block, place = divmod(number, _BLOCK)
        with self.lock:
            if block not in self.found:
                self.found[block] = self._find(range(block * _BLOCK, min((block + 1) * _BLOCK, len(self.loader))))
            return self.index.take(self.found[block][place])

    def _find(self, numbers: range) -> list[list[int]]:
        records = [self.loader.images.records[number] for number in numbers]
        rows = [self.row_of.get(record.name) for record in records]
        known = [row for row in rows if row is not None]
        if len(known) == len(rows):
            vectors = self.index.take(known)
        else:
            vectors = _vectors(self.loader, numbers, self.index.contents.encoder, self.device)
        return self.index.nearest(vectors, self.count, groups=[_group(record) for record in records])


def _vectors(
    loader: Loader, numbers: Sequence[int], encoder: ImageEncoderConfig, device: torch.device | str
) -> Float[Tensor, "n d"]:
    crops = np.stack([loader.crop(number) for number in numbers])
    images = loader.images.pixel_format.to_model(crops).permute(0, 3, 1, 2)
    return encoder.build().to(device).encode(images)


def _caption_vectors(
    captions: Sequence[str], text: TextEncoderConfig, device: torch.device | str, quiet: bool
) -> Float[Tensor, "n e"]:
    """Encode each caption once; where there is none the vector is zero."""
    encoder, said = text.build().to(device), [caption for caption in dict.fromkeys(captions) if caption]
    vectors: dict[str, Tensor] = {}
    with progress("caption vectors", len(said), unit="captions", quiet=quiet) as bar:
        for start in range(0, len(said), _BLOCK):
            part = said[start : start + _BLOCK]
            vectors.update(zip(part, encoder.embed(part), strict=True))
            bar.advance(len(part))
    nothing = torch.zeros(next(iter(vectors.values()), torch.zeros(1)).shape)
    return torch.stack([vectors.get(caption, nothing) for caption in captions])


def _group(record: Record) -> str:
    return record.group or record.name


def _caption(record: Record) -> str:
    caption = record.fields.get("caption")
    return caption if isinstance(caption, str) else ""
