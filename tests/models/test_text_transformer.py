from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from calotype.models.text_transformer import TextTransformerConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

SMALL = TextTransformerConfig(vocabulary_size=20, length=6, channels=12, layers=2, heads=3, head_channels=4)
TOKENS = torch.tensor([[0, 3, 4, 5, 0, 0], [0, 7, 0, 0, 0, 0]])
SEEN = torch.tensor([[True, True, True, True, False, False], [True, True, False, False, False, False]])


def test_padding_does_not_matter_behind_a_mask(randomised) -> None:
    model = randomised(SMALL.build())
    other = torch.where(SEEN, TOKENS, torch.tensor(19))
    embedded, again = model(TOKENS, SEEN), model(other, SEEN)
    assert torch.equal(embedded[SEEN], again[SEEN])
    torch.testing.assert_close(embedded[1, :2], model(TOKENS[1:, :2])[0])
    assert not torch.allclose(model(TOKENS)[SEEN], model(other)[SEEN])


def test_without_a_mask_every_token_is_seen(randomised) -> None:
    model = randomised(SMALL.build())
    assert torch.equal(model(TOKENS), model(TOKENS, torch.ones_like(SEEN)))
    assert not torch.allclose(model(TOKENS), model(TOKENS, SEEN))


def test_words_are_ordered_by_position_embeddings_alone(randomised) -> None:
    model = randomised(SMALL.build())
    swapped = TOKENS[:, [0, 2, 1, 3, 4, 5]]
    assert not torch.allclose(words_swapped(model(swapped)), model(TOKENS))
    model.pos_emb["emb"].weight.data.zero_()
    torch.testing.assert_close(words_swapped(model(swapped)), model(TOKENS))


def words_swapped(embedded: Tensor) -> Tensor:
    return embedded[:, [0, 2, 1, 3, 4, 5]]


def test_embeddings_are_dropped_in_training_alone(randomised) -> None:
    model = randomised(replace(SMALL, embedding_dropout=1.0).build())
    assert torch.equal(model(TOKENS), randomised(SMALL.build())(TOKENS))
    dropped = model.train()(TOKENS)
    torch.testing.assert_close(dropped, dropped[:1, :1].expand_as(dropped))


def test_the_published_model_has_its_number_of_parameters() -> None:
    with torch.device("meta"):
        model = TextTransformerConfig(
            vocabulary_size=30_522, length=77, channels=640, layers=32, heads=8, head_channels=64
        ).build()
    logits = 640 * 30_522 + 30_522  # a layer that the reference has but never uses
    count = sum(parameter.numel() for parameter in model.parameters()) + logits
    assert count / 1e6 == pytest.approx(186.2, abs=0.05)


def test_configurations_survive_a_round_trip() -> None:
    assert from_dict(TextTransformerConfig, to_dict(SMALL)) == SMALL


@pytest.mark.parametrize(
    "change", [{"layers": 0}, {"vocabulary_size": 0}, {"head_channels": -4}, {"embedding_dropout": 2.0}, {"width": 8}]
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"^config: .*{next(iter(change))}"):
        from_dict(TextTransformerConfig, {**to_dict(SMALL), **change})
