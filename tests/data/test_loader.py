import logging

import numpy as np
import pytest
import torch

from calotype.data.loader import Loader
from calotype.data.transforms import Transform
from calotype.utils.images import ImageError

AUGMENTED = Transform(size=8, crop="random", flip=True)
FLIPPED = Transform(size=8, flip=True)
PLAIN = Transform(size=8)


@pytest.mark.parametrize("transform", [PLAIN, FLIPPED, AUGMENTED])
def test_rows_of_a_batch_are_its_slices(memory_set, transform):
    images = memory_set(10)
    whole = Loader(images, transform).batch(4, 12)
    for count in (2, 3, 4):
        parts = [Loader(images, transform).batch(4, 12, slice(rank, None, count)) for rank in range(count)]
        for rank, part in enumerate(parts):
            assert torch.equal(part.images, whole.images[rank::count])
            assert torch.equal(part.indices, whole.indices[rank::count])
            assert part.fields == {"number": whole.fields["number"][rank::count]}
    halves = [Loader(images, transform).batch(4, 6), Loader(images, transform).batch(10, 6)]
    assert torch.equal(torch.cat([half.images for half in halves]), whole.images)


@pytest.mark.parametrize("transform", [PLAIN, FLIPPED, AUGMENTED])
@pytest.mark.parametrize("cache_bytes", [0, 5 * 192, 2**30])
def test_batches_depend_on_no_earlier_call(memory_set, transform, cache_bytes):
    images = memory_set(10)
    loader = Loader(images, transform, cache_bytes=cache_bytes)
    expected = [Loader(images, transform).batch(start, 5) for start in range(0, 30, 5)]
    for turn in (5, 0, 3, 3, 1, 4, 2):
        list(loader.all())
        if turn % 2:
            loader.prefetch(5 * turn, 5)
        batch = loader.batch(5 * turn, 5)
        assert torch.equal(batch.images, expected[turn].images)
        assert batch.fields == expected[turn].fields


def test_rank_decodes_only_its_rows(memory_set):
    images = memory_set(12)
    loader = Loader(images, PLAIN)
    batch = loader.batch(0, 12, slice(3, 7))
    assert [i for i, count in enumerate(images.decoded) if count] == sorted(batch.indices.tolist())
    assert batch.indices.tolist() == loader.order.batch(0, 12)[3:7]


def test_values_and_fields(memory_set):
    images = memory_set(10)
    batch = Loader(images, Transform(size=9)).batch(0, 10)
    assert batch.images.dtype == torch.float32
    for image, index, number in zip(batch.images, batch.indices.tolist(), batch.fields["number"], strict=True):
        square = Transform(size=9).apply(images.arrays[index])
        assert torch.allclose(image, torch.from_numpy(square / 127.5 - 1).permute(2, 0, 1).float(), atol=1e-6)
        assert number == (index if index % 2 else None)
    assert sorted(batch.indices.tolist()) == list(range(10))


def test_16_bit_sets_keep_their_precision(memory_set):
    images = memory_set(8, dtype="uint16")
    batch = next(Loader(images, Transform(size=9)).all())
    square = Transform(size=9).apply(images.arrays[0])
    assert torch.allclose(batch.images[0], torch.from_numpy(square / 32767.5 - 1).permute(2, 0, 1).float(), atol=1e-6)


@pytest.mark.parametrize("transform", [PLAIN, FLIPPED])
def test_the_cache_decodes_once(memory_set, transform):
    images = memory_set(10)
    loader = Loader(images, transform)
    for start in range(0, 50, 5):
        loader.batch(start, 5)
    list(loader.all())
    assert images.decoded == [1] * 10


def test_random_crops_are_not_cached(memory_set):
    images = memory_set(10)
    loader = Loader(images, AUGMENTED)
    for start in range(0, 50, 5):
        loader.batch(start, 5)
    assert images.decoded == [5] * 10


def test_a_cache_that_does_not_hold_everything_says_so_once(memory_set, caplog):
    images = memory_set(10)
    with caplog.at_level(logging.WARNING):
        loader = Loader(images, PLAIN, cache_bytes=4 * 8 * 8 * 3)
        for start in range(0, 30, 5):
            loader.batch(start, 5)
    assert len(caplog.records) == 1
    assert "4 of 10" in caplog.text
    assert images.decoded == [1] * 4 + [3] * 6


def test_an_image_is_flipped_in_some_epochs_only(memory_set):
    images = memory_set(4)
    loader, plain = Loader(images, FLIPPED), next(Loader(images, PLAIN).all()).images
    flips = []
    for position in range(80):
        batch = loader.batch(position, 1)
        original = plain[batch.indices[0]]
        flips.append(torch.equal(batch.images[0], original.flip(-1)))
        assert flips[-1] or torch.equal(batch.images[0], original)
    assert 20 < sum(flips) < 60


def test_seeds_change_order_and_augmentation(memory_set):
    first, second = (Loader(memory_set(10), FLIPPED, seed=seed).batch(0, 10) for seed in (0, 1))
    assert first.indices.tolist() != second.indices.tolist()
    first, second = (Loader(memory_set(1), FLIPPED, seed=seed).batch(0, 40) for seed in (0, 1))
    assert not torch.equal(first.images, second.images)


def test_prefetch_decodes_ahead_and_is_used_once(memory_set):
    images = memory_set(10)
    loader = Loader(images, AUGMENTED)
    loader.prefetch(0, 5, slice(1, 4))
    loader._pool.shutdown(wait=True)  # from here on nothing can be decoded
    decoded = list(images.decoded)
    assert sum(decoded) == 3
    batch = loader.batch(0, 5, slice(1, 4))
    assert images.decoded == decoded
    assert torch.equal(batch.images, Loader(images, AUGMENTED).batch(0, 5).images[1:4])


def test_a_batch_that_was_not_prefetched(memory_set):
    images = memory_set(10)
    loader = Loader(images, AUGMENTED)
    loader.prefetch(0, 5)
    assert torch.equal(loader.batch(5, 5).images, Loader(images, AUGMENTED).batch(5, 5).images)


def test_all_goes_through_the_set_in_order_without_augmentation(memory_set):
    images = memory_set(10)
    batches = list(Loader(images, AUGMENTED).all(chunk=4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(10))
    pixels = np.stack([PLAIN.apply(array) for array in images.arrays])
    expected = images.pixel_format.to_model(pixels).permute(0, 3, 1, 2)
    assert torch.equal(torch.cat([batch.images for batch in batches]), expected)
    assert len(Loader(images, PLAIN)) == 10


def test_errors_reach_the_caller(memory_set, monkeypatch):
    images = memory_set(10)
    decode = images.pixels

    def pixels(index: int) -> np.ndarray:
        if index == 7:
            raise ImageError("7.png", "truncated")
        return decode(index)

    monkeypatch.setattr(images, "pixels", pixels)
    with pytest.raises(ImageError, match=r"7\.png: truncated"):
        Loader(images, PLAIN).batch(0, 10)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="at least one row"):
        Loader(images, PLAIN).batch(0, 4, slice(0, 0))


@pytest.fixture
def shapes(memory_set):
    """Twelve images, of which four are wide and three are tall."""
    images = memory_set(12)
    images.arrays = [
        np.full((12, 18, 3) if i < 4 else (18, 12, 3) if i < 7 else (12, 12, 3), 20 * i, np.uint8) for i in range(12)
    ]
    return images


BUCKETS = Transform(size=12, more_sizes=((12, 18), (18, 12)), flip=True)


def test_a_batch_of_several_sizes_has_one(shapes):
    loader, seen = Loader(shapes, BUCKETS), set()
    for step in range(24):
        batch = loader.batch(3 * step, 3)
        for index in batch.indices.tolist():
            assert batch.images.shape[2:] == shapes.arrays[index].shape[:2]
        seen.add(batch.images.shape[2:])
    assert seen == {(12, 12), (12, 18), (18, 12)}


def test_several_sizes_resume_and_divide_over_ranks(shapes):
    whole, ranks = Loader(shapes, BUCKETS), [Loader(shapes, BUCKETS) for _ in range(2)]
    for start in (44, 0, 8):
        batch = whole.batch(start, 4)
        parts = [rank.batch(start, 4, slice(2 * number, 2 * number + 2)) for number, rank in enumerate(ranks)]
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        assert torch.equal(torch.cat([part.indices for part in parts]), batch.indices)
        whole.prefetch(start + 4, 4)


def test_all_but_training_is_at_the_first_size(shapes):
    loader = Loader(shapes, BUCKETS)
    loader.batch(0, 4)
    assert next(loader.all()).images.shape == (12, 3, 12, 12)
