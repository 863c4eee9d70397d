from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch

from calotype.conditioner import BERTEmbedderConfig, LayoutConfig, TokenIdsConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

TEXT = BERTEmbedderConfig(length=8, channels=12, layers=1, dropout=0.1)
OBJECTS = LayoutConfig(classes=("cat", "dog"), max_objects=2, tokens=16)
LAYOUT = replace(TEXT, field="layout", tokens=OBJECTS, vocabulary_size=16)
IDS = replace(TEXT, tokens=TokenIdsConfig(), vocabulary_size=20, null="none", dropout=0.0)
EMPTY = [101, 102, 0, 0, 0, 0, 0, 0]


def test_state_keys_are_those_of_the_reference() -> None:
    assert {name.split(".")[1] for name in IDS.build().state_dict()} == {"token_emb", "pos_emb", "attn_layers", "norm"}
    assert IDS.build().state_dict()["transformer.attn_layers.layers.0.1.to_q.weight"].shape == (8 * 64, 12)


def test_captions_become_word_pieces() -> None:
    embedder = TEXT.build()
    tokens = embedder.prepare(["A RED fox!", "", None, list(range(8))])
    assert tokens.tolist() == [[101, 1037, 2417, 4419, 999, 102, 0, 0], EMPTY, EMPTY, list(range(8))]
    assert torch.equal(embedder(tokens).context, embedder.transformer(tokens))


def test_layouts_become_tokens() -> None:
    embedder, layout = LAYOUT.build(), [{"class": "dog", "box": [0.0, 0.0, 1.0, 1 / 3]}]
    tokens = embedder.prepare([layout, [], None])
    assert tokens.tolist() == [[1, 0, 7, 15, 15, 15, 0, 15], [15] * 6 + [0, 15], [15] * 6 + [0, 15]]


def test_every_token_is_seen_and_dropped_rows_are_the_empty_value(randomised) -> None:
    embedder = randomised(TEXT.build())
    tokens = embedder.prepare(["a red fox", "a red fox"])
    conditioning = embedder(tokens, torch.tensor([True, False]))
    assert conditioning.slots().keys() == {"context"}, "padding has no mask, as in the reference"
    torch.testing.assert_close(conditioning.context[:1], embedder(embedder.null(1)).context)
    torch.testing.assert_close(conditioning.context[1:], embedder(tokens[1:]).context)
    assert not torch.allclose(conditioning.context[0], conditioning.context[1])


def test_objects_are_listed_in_another_order_in_training() -> None:
    embedder = replace(LAYOUT, length=32, tokens=replace(OBJECTS, max_objects=10)).build()
    layout = [{"class": "cat", "box": [0.0, 0.0, share / 10, 1.0]} for share in range(1, 9)]
    varied = embedder.augment(layout, {}, Random(0))
    assert varied != layout
    assert sorted(item["box"] for item in varied) == [item["box"] for item in layout]
    assert varied == embedder.augment(layout, {}, Random(0))
    assert embedder.augment(None, {}, Random(0)) is None
    assert TEXT.build().augment("a fox", {}, Random(0)) == "a fox"


def test_without_a_null_every_image_needs_a_value() -> None:
    embedder = IDS.build()
    assert not embedder.has_null
    for refused in (lambda: embedder.null(1), lambda: embedder.prepare([None])):
        with pytest.raises(UserError, match=r"^caption: this model needs a value for every image$"):
            refused()


@pytest.mark.parametrize(
    ("config", "value", "message"),
    [
        (TEXT, 3, "caption must be text, not int: 3"),
        (LAYOUT, "a fox", "layout must be a list of objects, not str: 'a fox'"),
        (IDS, "a fox", "caption must be a list of token ids, not str: 'a fox'"),
        (IDS, [1, 2], "caption must have 8 token ids, not 2"),
        (IDS, [*range(7), 20], "caption: token ids must be 0 to 19, not 20"),
        (replace(TEXT, vocabulary_size=1000), "a", "caption: token ids must be 0 to 999, not 1037"),
    ],
)
def test_what_cannot_be_tokens_is_refused(config: BERTEmbedderConfig, value: Any, message: str) -> None:
    with pytest.raises(UserError) as refused:
        config.build().prepare([value])
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("config", "change", "field"),
    [
        (TEXT, {"length": 2}, "length must be at least 3"),
        (TEXT, {"layers": 0}, "layers"),
        (TEXT, {"embedding_dropout": -0.1}, "embedding_dropout"),
        (TEXT, {"null": "none"}, "dropout must be 0"),
        (IDS, {"null": "empty"}, "null"),
        (LAYOUT, {"length": 9}, "length must be 8"),
        (LAYOUT, {"vocabulary_size": 15}, "vocabulary_size must be at least 16"),
        (LAYOUT, {"tokens": {"kind": "layuot"}}, "tokens"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(
    config: BERTEmbedderConfig, change: dict[str, Any], field: str
) -> None:
    assert from_dict(BERTEmbedderConfig, to_dict(config)) == config
    with pytest.raises(UserError, match=rf"^config: .*{field}"):
        from_dict(BERTEmbedderConfig, {**to_dict(config), **change})
