from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from calotype.conditioner import (
    ConditionerConfig,
    FrozenTextEmbedderConfig,
    ImageEmbeddingConfig,
    NeighboursConfig,
    ProjectionConfig,
)
from calotype.conditioner.embedders.base import FieldConfig
from calotype.encoders import describe_image_encoder, describe_text_encoder
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError
from calotype.utils.seeds import generator

PROJECTION = ProjectionConfig(channels=12, tokens=2, layers=1, heads=2)
NEIGHBOURS = NeighboursConfig(count=3, width=5, projection=PROJECTION)
VECTORS = torch.randn(3, 5, generator=generator("vectors"))


@pytest.fixture(params=["frozen_text", "image_embedding", "neighbours"])
def case(request: pytest.FixtureRequest, bert_folder: Path, clip_folder: Path) -> tuple[FieldConfig, Any, Any]:
    """A configuration and two values that it takes."""
    if request.param == "neighbours":
        return NEIGHBOURS, VECTORS[:2], VECTORS[1:]
    if request.param == "frozen_text":
        text = describe_text_encoder(str(bert_folder), length=8)
        return FrozenTextEmbedderConfig(encoder=text, projection=PROJECTION), "a red fox", "the fog"
    image = describe_image_encoder(str(clip_folder))
    picture = torch.rand(3, 20, 20, generator=generator("picture"))
    return ImageEmbeddingConfig(width=8, encoder=image, projection=PROJECTION), picture, picture.flip(2)


def test_values_become_tokens_of_their_own(case: tuple[FieldConfig, Any, Any], randomised) -> None:
    config, value, other = case
    embedder = randomised(config.build())
    both = embedder(embedder.prepare([value, other]).double())
    assert both.context.shape[2] == both.vector.shape[1] == 12
    assert config.widths(4)[:2] == (12, 12)
    assert not torch.allclose(both.vector[0], both.vector[1])
    alone = embedder(embedder.prepare([other]).double())
    torch.testing.assert_close(both.context[1:], alone.context, msg="a row depends on its own value")


def test_dropped_missing_and_null_are_exactly_one_thing(case: tuple[FieldConfig, Any, Any], randomised) -> None:
    config, value, _ = case
    embedder = randomised(config.build())
    given = embedder.prepare([value, None]).double()
    dropped = embedder(given, torch.tensor([True, False]))
    null = embedder(embedder.null(2).double())
    assert torch.equal(dropped.vector, null.vector)
    assert torch.equal(dropped.context_mask, null.context_mask)
    assert null.context_mask.sum(1).tolist() == [1, 1], "one learned token"
    seen = null.context_mask[:, :, None]
    assert torch.equal(dropped.context * seen, null.context * seen)
    assert not torch.allclose(embedder(given).vector[0], null.vector[0])


def test_the_configuration_round_trips_and_is_read_by_its_kind(case: tuple[FieldConfig, Any, Any]) -> None:
    conditioner = ConditionerConfig(embedders=(case[0],))
    assert from_dict(ConditionerConfig, to_dict(conditioner)) == conditioner


def test_weights_of_the_frozen_network_are_not_stored(case: tuple[FieldConfig, Any, Any]) -> None:
    embedder = case[0].build()
    embedder.prepare([case[1]])
    assert {name.split(".")[0] for name in embedder.state_dict()} == {"projection"}
    assert {name.split(".")[1] for name in embedder.state_dict()} == {"proj", "null", "transformer", "pool"}


def test_the_order_of_neighbours_does_not_matter(randomised) -> None:
    embedder = randomised(NEIGHBOURS.build())
    forth, back = (embedder(embedder.prepare([vectors]).double()) for vectors in (VECTORS, VECTORS.flip(0)))
    torch.testing.assert_close(forth.vector, back.vector)
    torch.testing.assert_close(forth.context[0, :2], back.context[0, 4:])


def test_a_vector_counts_by_its_direction_and_is_seen_only_where_there_is_one(randomised) -> None:
    embedder = randomised(replace(NEIGHBOURS, projection=replace(PROJECTION, layers=0, pooled=False)).build())
    inputs = embedder.prepare([VECTORS[:1], 3 * VECTORS[:1]]).double()
    out = embedder(inputs)
    assert out.vector is None
    assert out.context_mask.tolist() == [[True, True, False, False, False, False]] * 2
    torch.testing.assert_close(out.context[0], out.context[1], atol=1e-4, rtol=0)


def test_an_empty_caption_is_the_null(bert_folder: Path) -> None:
    embedder = FrozenTextEmbedderConfig(encoder=describe_text_encoder(str(bert_folder), length=8)).build()
    assert torch.equal(embedder.prepare(["", " ", None]), embedder.null(3))
    inputs = embedder.prepare(["fog"])
    assert inputs.shape == (1, 8, 17), "as many tokens as the encoder may give: guidance joins batches"
    assert inputs[0, :, -1].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_an_image_and_its_vector_are_one_condition(clip_folder: Path, randomised) -> None:
    encoder = describe_image_encoder(str(clip_folder))
    embedder = ImageEmbeddingConfig(width=8, encoder=encoder).build()
    large, small = torch.rand(3, 20, 20), torch.rand(1, 12, 16)
    vectors = [encoder.build().encode(image[None])[0] for image in (large, small)]
    assert torch.equal(
        embedder.prepare([large, None, small]), embedder.prepare([vectors[0].tolist(), None, vectors[1]])
    )
    plain = ImageEmbeddingConfig(width=8).build()
    assert plain.takes(vectors[0])
    assert not plain.takes(large)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a red fox", "neighbours must be at most 3 vectors of 5 numbers"),
        (torch.zeros(4, 5), "neighbours must be at most 3 vectors of 5 numbers"),
        (torch.zeros(2, 4), "neighbours must be at most 3 vectors of 5 numbers"),
    ],
)
def test_what_are_no_neighbours_is_refused(value: Any, message: str) -> None:
    embedder = NEIGHBOURS.build()
    assert not embedder.takes(value)
    with pytest.raises(UserError, match=f"^{message}$"):
        embedder.prepare([value])


def test_what_is_no_caption_or_image_is_refused(case: tuple[FieldConfig, Any, Any]) -> None:
    embedder = case[0].build()
    with pytest.raises(UserError, match=f"^{case[0].field} must be "):
        embedder.prepare([None, 3])


@pytest.mark.parametrize("change", [{"channels": 0}, {"tokens": 0}, {"layers": -1}, {"heads": 5}])
def test_a_projection_that_cannot_be_built_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(PROJECTION, **change)


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(NEIGHBOURS, count=0),
        lambda: replace(NEIGHBOURS, dropout=2.0),
        lambda: ImageEmbeddingConfig(width=0),
        lambda: ImageEmbeddingConfig(width=4, encoder=describe_image_encoder()),
    ],
)
def test_an_embedder_that_cannot_be_built_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()
