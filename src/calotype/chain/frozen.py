"""What a run prepares of frozen networks: all encodings, and the index of its images, in which neighbours are found."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calotype.conditioner import ConditionerConfig, FrozenTextEmbedderConfig, ImageEmbeddingConfig, NeighboursConfig
from calotype.data.loader import Loader
from calotype.encoders import EncodingCache, ImageEncoder, ImageEncoderConfig, RetrievalIndex, TextEncoder
from calotype.tasks.retrieve import build_index, neighbours_embedder, text_encoder_for
from calotype.training.session import Session
from calotype.utils import distributed
from calotype.utils.errors import UserError
from calotype.utils.progress import progress

log = logging.getLogger("calotype")
_CHUNK = 64


def prepare_frozen(conditioner: ConditionerConfig, images: Loader, folder: Path, session: Session) -> Path | None:
    """Encode the captions or images that the frozen networks of ``conditioner`` will see, on the main process.

    What they make of them is kept under ``folder``, for runs that go on. Where there are neighbours, return the file of
    the index in which they are found.

    Raises:
        UserError: an encoder is not there, or cannot take these images.
    """
    for embedder in conditioner.embedders:
        if isinstance(embedder, FrozenTextEmbedderConfig):
            _encode_captions(embedder, images, folder / "encodings", session)
        elif isinstance(embedder, ImageEmbeddingConfig) and embedder.encoder is not None:
            _encode_images(embedder.encoder.build(), images, folder / "encodings", session)
    neighbours, index = neighbours_embedder(conditioner), folder / "index.safetensors"
    if neighbours is None:
        return None
    store_index(index, images, neighbours, session)
    return index


def _encode_captions(embedder: FrozenTextEmbedderConfig, images: Loader, folder: Path, session: Session) -> None:
    encoder, values = embedder.encoder.build(), (each.fields.get(embedder.field) for each in images.images.records)
    texts = list(dict.fromkeys(value for value in values if isinstance(value, str) and value.strip()))
    _encode(encoder, texts, encoder.encode, "captions", folder, session)


def _encode_images(encoder: ImageEncoder, images: Loader, folder: Path, session: Session) -> None:
    _encode(encoder, range(len(images)), lambda rows: encoder.encode(images.at(rows).images), "images", folder, session)


def _encode(
    encoder: TextEncoder | ImageEncoder,
    items: Sequence[Any],
    encode: Callable[[Sequence[Any]], object],
    unit: str,
    folder: Path,
    session: Session,
) -> None:
    """Let ``encode`` fill the encoder's cache, which is kept in ``folder``; other processes read it there."""
    encoder.to(session.device)
    if distributed.is_main():
        encoder.cache = EncodingCache(folder)
        with progress(f"encoding {unit}", len(items), unit=unit) as bar:
            for start in range(0, len(items), _CHUNK):
                encode(items[start : start + _CHUNK])
                bar.advance(len(items[start : start + _CHUNK]))
    distributed.barrier()
    if not distributed.is_main():
        encoder.cache = EncodingCache(folder)


def store_index(path: Path, images: Loader, embedder: NeighboursConfig, session: Session) -> None:
    """Write the index of ``images`` to ``path``, on the main process, unless it is there.

    Raises:
        UserError: an encoder is not there, or cannot take these images.
    """
    if embedder.encoder is None:
        raise UserError("the embedder of neighbours names no encoder that could find them")
    if distributed.is_main() and not _is_index_of(path, images, embedder.encoder):
        text = text_encoder_for(images.images, embedder.encoder)
        log.info(f"index of {len(images)} images, to find neighbours in: {path}")
        build_index(images, embedder.encoder, text, device=session.device).save(path)
    distributed.barrier()


def _is_index_of(path: Path, images: Loader, encoder: ImageEncoderConfig) -> bool:
    try:
        contents = RetrievalIndex.load(path).contents
    except UserError:
        return False
    of = (images.images.fingerprint, images.transform.size)
    return (contents.fingerprint, contents.size) == of and contents.encoder == encoder
