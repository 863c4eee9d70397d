"""The index of a run's own images, in which its neighbours are found: made once."""

import logging
from pathlib import Path

from calotype.conditioner import NeighboursConfig
from calotype.data.loader import Loader
from calotype.encoders import ImageEncoderConfig, RetrievalIndex
from calotype.tasks.retrieve import build_index, text_encoder_for
from calotype.training.session import Session
from calotype.utils import distributed
from calotype.utils.errors import UserError

log = logging.getLogger("calotype")


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
