from collections import Counter
from itertools import pairwise

import pytest

from calotype.data.order import BatchOrder, Order

BUCKETS = [0] * 11 + [2] * 5 + [1] * 2


def batches(order, count, steps):
    return [order.batch(step * count, count) for step in range(steps)]


def test_one_bucket_is_the_plain_order():
    assert BatchOrder(3, [4] * 7).batch(5, 6) == Order(3, 7).indices(5, 6)


def test_a_batch_is_of_one_bucket():
    for batch in batches(BatchOrder(0, BUCKETS), 4, 60):
        assert len(batch) == 4
        assert len({BUCKETS[image] for image in batch}) == 1


def test_a_pure_function_of_seed_and_position():
    order = BatchOrder(0, BUCKETS)
    forwards = batches(order, 4, 30)
    assert [order.batch(4 * step, 4) for step in reversed(range(30))] == forwards[::-1]
    assert batches(BatchOrder(1, BUCKETS), 4, 30) != forwards


@pytest.mark.parametrize("count", [1, 3, 4, 16])
def test_every_image_comes_equally_often(count):
    """18 images: after 18 passes of a multiple of every bucket's batches, all counts are the same."""
    steps = 18 * 16 // count
    counts = Counter(image for batch in batches(BatchOrder(0, BUCKETS), count, steps) for image in batch)
    assert sorted(counts) == list(range(18))
    assert max(counts.values()) - min(counts.values()) <= (0 if 16 % count == 0 else count)


def test_buckets_are_mixed():
    kinds = [int(batch[0] >= 400) for batch in batches(BatchOrder(0, [0] * 400 + [1] * 400), 8, 100)]
    changes = sum(a != b for a, b in pairwise(kinds))
    assert 25 < changes < 75
    assert sum(kinds) == 50


def test_several_buckets_need_whole_batches():
    with pytest.raises(ValueError, match="begin at multiples of it, not at 2"):
        BatchOrder(0, BUCKETS).batch(2, 4)
