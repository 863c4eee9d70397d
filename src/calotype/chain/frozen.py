"""What a run keeps of frozen encoders: the index of its images, in which neighbours are found, and all encodings."""

import logging
from pathlib import Path

from calotype.conditioner import ConditionerConfig, FrozenTextEmbedderConfig, ImageEmbeddingConfig, NeighboursConfig
from calotype.data.loader import Loader
from calotype.encoders import EncodingCache, ImageEncoderConfig, RetrievalIndex
from calotype.tasks.retrieve import build_index, text_encoder_for
from calotype.training.session import Session
from calotype.utils import distributed
from calotype.utils.errors import UserError

log = logging.getLogger("calotype")


def keep_encodings(conditioner: ConditionerConfig, folder: Path) -> None:
    """Let frozen encoders keep in ``folder`` what they make of captions and images, for runs that go on.

    Raises:
        UserError: an encoder is not there.
    """
    for embedder in conditioner.embedders:
        if isinstance(embedder, FrozenTextEmbedderConfig | ImageEmbeddingConfig) and embedder.encoder is not None:
            embedder.encoder.build().cache = EncodingCache(folder)


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
