from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from calotype.conditioner import ConditionerConfig, NeighboursConfig
from calotype.data.fields import FieldReader
from calotype.data.loader import Loader
from calotype.data.transforms import Transform
from calotype.encoders import ImageEncoderConfig, RetrievalIndex, describe_image_encoder, describe_text_encoder
from calotype.tasks.retrieve import build_index, check_index, lookups, text_encoder_for
from calotype.utils.errors import UserError
from calotype.utils.tensors import save_tensors


def loader(count: int, first: int = 0, groups: int = 0) -> Loader:
    pictures = tiny.Pictures(count, first)
    if groups:
        named = enumerate(pictures.records)
        pictures.records = tuple(replace(record, group=f"group {number % groups}") for number, record in named)
    return Loader(pictures, Transform(size=tiny.SIZE))


@pytest.fixture(scope="module")
def encoder(clip_folder: Path) -> ImageEncoderConfig:
    return describe_image_encoder(str(clip_folder))


@pytest.fixture(scope="module")
def index(encoder: ImageEncoderConfig, bert_folder: Path) -> RetrievalIndex:
    return build_index(loader(12, groups=6), encoder, describe_text_encoder(str(bert_folder)), quiet=True)


def test_an_image_finds_itself_and_its_group_can_be_left_out(index: RetrievalIndex) -> None:
    queries = index.take(range(12))
    assert [row[0] for row in index.nearest(queries, 3)] == list(range(12))
    groups = index.contents.groups
    for row, found in enumerate(index.nearest(queries, 10, groups=groups)):
        assert len(found) == 10
        assert groups[row] not in {groups[other] for other in found}


def test_words_find_images_by_their_captions(index: RetrievalIndex) -> None:
    for found in index.nearest_to(["a red wave"], 4):
        assert {index.contents.captions[row] for row in found} == {"a red wave"}
    assert index.has_text


def test_an_image_without_a_caption_is_not_found_by_words(encoder: ImageEncoderConfig, bert_folder: Path) -> None:
    images = loader(6)
    images.images.records = tuple(
        replace(record, fields={} if number % 2 else record.fields)
        for number, record in enumerate(images.images.records)
    )
    index = build_index(images, encoder, describe_text_encoder(str(bert_folder)), quiet=True)
    assert sorted(index.nearest_to(["a wave"], 6)[0]) == [0, 2, 4]


def test_a_clip_looks_for_images_without_captions(encoder: ImageEncoderConfig) -> None:
    text = text_encoder_for(loader(4).images, encoder)
    assert text is not None
    assert text.source == encoder.source
    index = build_index(loader(12), encoder, text, quiet=True)
    assert index.captions is None
    similarity = text.build().embed(["a red fox"]) @ index.vectors.float().T
    assert index.nearest_to(["a red fox"], 12)[0] == similarity[0].argsort(descending=True).tolist()


def test_an_index_is_one_file(index: RetrievalIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "index.safetensors")
    again = RetrievalIndex.load(tmp_path / "index.safetensors")
    assert again.contents == index.contents
    assert torch.equal(again.vectors, index.vectors)
    assert again.nearest_to(["a blue wave"], 3) == index.nearest_to(["a blue wave"], 3)


def test_what_is_no_index_is_refused(index: RetrievalIndex, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        RetrievalIndex.load(tmp_path / "none.safetensors")
    save_tensors(tmp_path / "other.safetensors", {"weight": torch.zeros(2)})
    with pytest.raises(UserError, match="is no index: make one with `calotype retrieve index`"):
        RetrievalIndex.load(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not one vector for each image"):
        RetrievalIndex(index.contents, index.vectors[:3])
    silent = RetrievalIndex(replace(index.contents, text=None), index.vectors)
    with pytest.raises(UserError, match="words cannot be looked for in this index"):
        silent.nearest_to(["a red wave"], 1)


def test_neighbours_of_images_leave_out_themselves_and_their_group(
    index: RetrievalIndex, encoder: ImageEncoderConfig
) -> None:
    embedder = NeighboursConfig(count=3, width=8, encoder=encoder)
    conditioner = ConditionerConfig(embedders=(embedder,))
    images, others = loader(12, groups=6), loader(4, first=12)
    found = FieldReader(images, (), (), lookups(conditioner, index, images)).at(range(12))["neighbours"]
    for row, vectors in enumerate(found):
        assert vectors.shape == (3, 8)
        own = [other for other in range(12) if index.contents.groups[other] == index.contents.groups[row]]
        assert not (vectors[:, None] == index.take(own)[None]).all(2).any()
    elsewhere = lookups(conditioner, index, others)["neighbours"]
    vectors = encoder.build().encode(others.at([1]).images)
    assert torch.equal(elsewhere(1), index.take(index.nearest(vectors, 3)[0]))
    assert embedder.build().takes(elsewhere(0))
    assert lookups(conditioner, None, images) == {}
    assert lookups(ConditionerConfig(), index, images) == {}


def test_images_of_another_size_or_place_are_encoded_anew(index: RetrievalIndex, encoder: ImageEncoderConfig) -> None:
    embedder = NeighboursConfig(count=1, width=8, encoder=encoder)
    mirrored = loader(12)
    pixels = mirrored.images.pixels
    mirrored.images.source = "elsewhere"  # images of the same names
    mirrored.images.pixels = lambda number: np.ascontiguousarray(255 - pixels(number))
    looked_up = lookups(ConditionerConfig(embedders=(embedder,)), index, mirrored)["neighbours"]
    query = encoder.build().encode(mirrored.at([0]).images)
    assert torch.equal(looked_up(0), index.take(index.nearest(query, 1)[0]))


def test_an_index_of_another_encoder_is_refused(index: RetrievalIndex, encoder: ImageEncoderConfig) -> None:
    check_index(index, NeighboursConfig(width=8, encoder=encoder))
    other = replace(encoder, source="efficientnet-lite0", fingerprint="0" * 32)
    with pytest.raises(UserError, match="but the model was trained with efficientnet-lite0"):
        check_index(index, NeighboursConfig(width=8, encoder=other))
