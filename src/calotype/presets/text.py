"""How captions condition: by a vocabulary of their words, by their byte pairs, or by a frozen encoder."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from calotype.conditioner import (
    BERTEmbedderConfig,
    FrozenTextEmbedderConfig,
    ProjectionConfig,
    TextEmbedderConfig,
    train_bpe,
)
from calotype.conditioner.embedders.base import FieldConfig
from calotype.conditioner.embedders.tokenizer import build_vocabulary
from calotype.data.image_set import ImageSet
from calotype.encoders import describe_text_encoder
from calotype.encoders.pretrained import MINILM, folder_of, load_tokenizer
from calotype.utils.errors import UserError

WORDS, BPE = "words", "bpe"
_MULTIPLE, _SAMPLE = 8, 4_096


def text_embedder(images: ImageSet, text: str = WORDS, *, channels: int, layers: int) -> FieldConfig | None:
    """Return an embedder of the set's captions, or None where they have no words.

    ``text`` is ``words`` (those of the captions and of a ``tags`` field), ``bpe`` (byte pairs, through the transformer
    of arXiv:2112.10752), ``minilm``, or another frozen text encoder by its path or as ``hub:OWNER/NAME``.

    Raises:
        UserError: a library or the encoder is not there.
    """
    captions = [str(caption) for record in images.records if (caption := record.fields.get("caption"))]
    if text == WORDS:
        return _by_words(images, captions, channels, layers)
    if not captions:
        raise UserError(f"{images.source} has no captions to condition on by {text!r}")
    if text == BPE:
        return _by_byte_pairs(captions, channels, layers)
    return _by_encoder(captions, MINILM if text == "minilm" else text, channels, layers)


def _by_words(images: ImageSet, captions: Sequence[str], channels: int, layers: int) -> TextEmbedderConfig | None:
    vocabulary = build_vocabulary([*captions, *(_words(record.fields.get("tags")) for record in images.records)])
    if not captions or not vocabulary:
        return None
    keywords = "tags" if "tags" in images.field_names else None
    return TextEmbedderConfig(vocabulary=vocabulary, channels=channels, layers=layers, keyword_field=keywords)


def _by_byte_pairs(captions: Sequence[str], channels: int, layers: int) -> BERTEmbedderConfig:
    tokens = train_bpe(captions)
    counter = tokens.build(length=4_096)
    longest = max(sum(1 for token in counter.encode(caption) if token) for caption in _some(captions))
    return BERTEmbedderConfig(
        vocabulary_size=tokens.most_tokens,
        length=min(_rounded(longest), 77),
        channels=channels,
        layers=layers,
        tokens=tokens,
        dropout=0.1,
    )


def _by_encoder(captions: Sequence[str], source: str, channels: int, layers: int) -> FrozenTextEmbedderConfig:
    encoder = describe_text_encoder(source, download=True)
    tokens = load_tokenizer(folder_of(encoder.source))
    longest = max(len(tokens(caption).input_ids) for caption in _some(captions))
    return FrozenTextEmbedderConfig(
        encoder=replace(encoder, length=min(encoder.length, _rounded(longest))),
        projection=ProjectionConfig(channels=channels, layers=max(1, layers // 2)),
    )


def _some(captions: Sequence[str]) -> Sequence[str]:
    """Return captions to measure: all, or every nth of many."""
    return captions[:: max(1, len(captions) // _SAMPLE)]


def _rounded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def _words(keywords: Any) -> str:
    return keywords if isinstance(keywords, str) else " ".join(keywords or ())
