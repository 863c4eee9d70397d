from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch

from calotype.conditioner import TextEmbedderConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

CONFIG = TextEmbedderConfig(
    vocabulary=("apple", "red", "round", "sweet"), length=5, channels=12, layers=1, heads=2, keyword_field="tags"
)


def test_captions_become_tokens_a_mask_and_a_pooled_vector(randomised) -> None:
    embedder = randomised(CONFIG.build())
    tokens = embedder.prepare(["red apple", "an apple"])
    assert tokens.tolist() == [[0, 2, 1, 0, 0], [0, 1, 0, 0, 0]]
    conditioning = embedder(tokens)
    mask = torch.tensor([[True, True, True, False, False], [True, True, False, False, False]])
    assert torch.equal(conditioning.context_mask, mask)
    assert torch.equal(conditioning.context, embedder.transformer(tokens, mask))
    mean = torch.stack([row[seen].mean(dim=0) for row, seen in zip(conditioning.context, mask, strict=True)])
    torch.testing.assert_close(conditioning.vector, embedder.pool(mean))


def test_without_pooling_there_is_no_vector() -> None:
    embedder = replace(CONFIG, pooled=False).build()
    assert not any("pool" in name for name in embedder.state_dict())
    assert embedder(embedder.prepare(["apple"])).slots().keys() == {"context", "context_mask"}


def test_every_word_changes_the_embedding(randomised) -> None:
    embedder = randomised(CONFIG.build())
    captions = ["", "red", "apple", "red apple", "apple red"]
    vectors = embedder(embedder.prepare(captions)).vector
    assert torch.pdist(vectors).min() > 1e-3


def test_dropped_missing_empty_and_null_are_exactly_one_thing(randomised) -> None:
    embedder = randomised(CONFIG.build())
    captions = ["red apple", None, "", "of unknown words"]
    conditioning = embedder(embedder.prepare(captions), torch.tensor([True, False, False, False]))
    null = embedder(embedder.null(4))
    kept = embedder(embedder.prepare(captions), torch.zeros(4, dtype=torch.bool))
    for name, value in null.slots().items():
        assert torch.equal(getattr(conditioning, name), value), name
        assert torch.equal(getattr(kept, name)[1:], value[1:]), name
    assert not torch.allclose(kept.vector[0], null.vector[0])


@pytest.mark.parametrize("value", [3, ["red"], b"red"])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"^caption must be text, not (int|list|bytes)"):
        CONFIG.build().prepare(["red", value])


def test_one_to_three_keywords_are_appended_in_half_of_the_draws() -> None:
    embedder, tags = CONFIG.build(), ["round", "sweet", "shiny", 7]
    varied = [embedder.augment("red apple", {"tags": tags}, Random(seed)) for seed in range(200)]
    added = [tuple(caption.removeprefix("red apple").split()) for caption in varied]
    assert {len(words) for words in added} == {0, 1, 2, 3}
    assert 70 < sum(not words for words in added) < 130
    assert {word for words in added for word in words} == {"round", "sweet", "shiny", "7"}
    assert all(len(set(words)) == len(words) for words in added)


def test_keywords_may_be_one_text() -> None:
    always = replace(CONFIG, keyword_probability=1.0).build()
    added = {always.augment("apple", {"tags": "round, sweet"}, Random(seed)) for seed in range(30)}
    assert added == {"apple round", "apple sweet", "apple round sweet", "apple sweet round"}


@pytest.mark.parametrize("others", [{}, {"tags": None}, {"tags": []}, {"tags": ""}, {"style": ["round"]}])
def test_a_caption_without_keywords_is_left_alone(others: dict[str, Any]) -> None:
    embedder = CONFIG.build()
    assert {embedder.augment("red apple", others, Random(seed)) for seed in range(20)} == {"red apple"}


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_caption_gets_no_keywords(value: str | None) -> None:
    embedder = CONFIG.build()
    assert {embedder.augment(value, {"tags": ["round"]}, Random(seed)) for seed in range(20)} == {value}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"vocabulary": ()}, "vocabulary"),
        ({"vocabulary": ("red", "red")}, "vocabulary"),
        ({"length": 0}, "length"),
        ({"heads": 5}, "heads"),
        ({"dropout": 1.5}, "dropout"),
        ({"keyword_probability": -0.1}, "keyword_probability"),
        ({"vocabluary": ("red",)}, "vocabluary"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    assert from_dict(TextEmbedderConfig, to_dict(CONFIG)) == CONFIG
    with pytest.raises(UserError, match=rf"^config: .*\b{field}\b"):
        from_dict(TextEmbedderConfig, {**to_dict(CONFIG), **change})
