import numpy as np
import pytest

from calotype.data.order import Order


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_every_epoch_is_a_permutation(length):
    order = Order(3, length)
    for epoch in range(4):
        assert sorted(order.indices(epoch * length, length)) == list(range(length))


def test_a_pure_function_of_seed_and_position():
    order = Order(0, 10)
    forwards = order.indices(0, 60)
    backwards = [Order(0, 10).index(position) for position in reversed(range(60))]
    assert forwards == backwards[::-1]
    assert [order.index(position) for position in (55, 3, 27, 55)] == [forwards[i] for i in (55, 3, 27, 55)]
    assert order.indices(7, 9) == forwards[7:16]


def test_epochs_and_seeds_differ():
    first, other = Order(0, 100), Order(1, 100)
    assert first.indices(0, 100) != first.indices(100, 100)
    assert first.indices(0, 100) != other.indices(0, 100)
    assert first.indices(100, 100) != other.indices(0, 100)


def test_the_order_of_a_release_is_for_ever():
    assert Order(0, 8).indices(0, 16) == [3, 5, 1, 6, 4, 0, 7, 2, 1, 6, 7, 5, 2, 3, 0, 4]


def test_every_image_is_equally_likely_at_every_place():
    counts = np.zeros((5, 5))
    order = Order(0, 5)
    for epoch in range(2000):
        for place, image in enumerate(order.indices(5 * epoch, 5)):
            counts[place, image] += 1
    assert np.abs(counts - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)


def test_nothing_to_order():
    with pytest.raises(ValueError, match="length"):
        Order(0, 0)
