from dataclasses import replace

import pytest

from calotype.conditioner import BERTEmbedderConfig, BPEConfig, train_bpe
from calotype.utils.config import from_dict, to_dict

CAPTIONS = ["low lower lowest", "new newer newest", "Wide wider widest"] * 3


def pieces(config: BPEConfig, text: str) -> list[str]:
    """Return the tokens of a text; a space is written with the word that follows it."""
    tokens = config.build(16)
    return tokens._tokenizer.encode(text).tokens


def test_what_occurs_often_becomes_one_token() -> None:
    config = train_bpe(CAPTIONS)
    assert pieces(config, "lowest WIDEST") == ["Ġlowest", "Ġwidest"]
    assert all(len(token) == 1 for token in pieces(BPEConfig(merges=()), "lowest"))
    assert len(train_bpe(CAPTIONS, vocabulary_size=265).merges) == 6
    assert train_bpe(CAPTIONS) == config


def test_no_text_is_unknown_and_each_has_its_own_ids() -> None:
    tokens = train_bpe(CAPTIONS).build(24)
    texts = ["low", "Bär 熊 🐻", "qqq!", ""]
    rows = [tokens.encode(text) for text in texts]
    assert len({tuple(row) for row in rows}) == 4
    assert all(len(row) == 24 and row[0] == 1 and 2 in row for row in rows)
    assert tokens.empty() == [1, 2] + [0] * 22


def test_long_captions_are_cut_before_the_end_mark() -> None:
    tokens = train_bpe(CAPTIONS).build(4)
    assert tokens.encode("low low low low")[0] == 1
    assert tokens.encode("low low low low")[3] == 2


def test_the_embedder_keeps_the_merges_as_data() -> None:
    merges = train_bpe(CAPTIONS)
    config = BERTEmbedderConfig(vocabulary_size=merges.most_tokens, length=8, channels=8, layers=1, tokens=merges)
    assert from_dict(BERTEmbedderConfig, to_dict(config)) == config
    embedder = config.build()
    tokens = embedder.prepare(["lowest", None])
    assert tokens[1].tolist() == embedder.null(1)[0].tolist()
    assert tokens[0].tolist() == merges.build(8).encode("lowest")
    assert embedder(tokens).context.shape == (2, 8, 8)


def test_merges_that_cannot_be_used_are_refused() -> None:
    merges = train_bpe(CAPTIONS)
    with pytest.raises(ValueError, match="merges must be pairs of tokens, not 'abc'"):
        BPEConfig(merges=("a b", "abc"))
    with pytest.raises(ValueError, match="length must be at least 3"):
        BERTEmbedderConfig(vocabulary_size=merges.most_tokens, length=2, tokens=merges)
    with pytest.raises(ValueError, match="vocabulary_size must be at least"):
        BERTEmbedderConfig(vocabulary_size=merges.most_tokens - 1, tokens=merges)
    with pytest.raises(ValueError, match="the merges of this model's captions cannot be used"):
        replace(merges, merges=("xyz a",)).build(8).encode("a")
