"""Which image the n-th training sample is, and which images the n-th batch holds."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from calotype.utils.seeds import seed_of


class Order:
    """An endless order over ``length`` images: each epoch is a permutation that depends on (seed, epoch) alone.

    The permutation sorts the raw output of a counter-based generator (Philox), so it is the same on every machine and
    with every version of numpy.
    """

    def __init__(self, seed: int, length: int) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, not {length}")
        self.seed, self.length = seed, length
        self._permutation = lru_cache(maxsize=2)(self._draw)

    def index(self, position: int) -> int:
        """Return the image that sample number ``position`` (from 0, over all epochs) uses."""
        epoch, offset = divmod(position, self.length)
        return int(self._permutation(epoch)[offset])

    def indices(self, start: int, count: int) -> list[int]:
        """Return the images of samples ``start`` to ``start + count - 1``."""
        return [self.index(position) for position in range(start, start + count)]

    def _draw(self, epoch: int) -> np.ndarray:
        raw = np.random.Philox(key=seed_of(self.seed, "order", epoch)).random_raw(self.length)
        return np.argsort(raw, kind="stable")


class BatchOrder:
    """An endless order of batches, each of images of one bucket; ``buckets`` has the number of each image's.

    Epoch e holds the batches that the e-th pass through each bucket completes, ``floor((e + 1) n / count) -
    floor(e n / count)`` of a bucket of n images, in an order that depends on (seed, e) alone. So every image comes
    equally often but for the start, no batch is filled up, and nothing has to be remembered. One bucket is ``Order``.
    """

    def __init__(self, seed: int, buckets: Sequence[int]) -> None:
        numbers = sorted(set(buckets))
        self.seed = seed
        self.members = [[image for image, own in enumerate(buckets) if own == number] for number in numbers]
        alone = len(numbers) == 1
        seeds = [seed if alone else seed_of(seed, "bucket", number) for number in numbers]
        self.orders = [Order(own, len(images)) for own, images in zip(seeds, self.members, strict=True)]

    def batch(self, start: int, count: int) -> list[int]:
        """Return the images of samples ``start`` to ``start + count - 1``, all of one bucket.

        Raises:
            ValueError: there are several buckets, and ``start`` is not a multiple of ``count``.
        """
        if len(self.orders) == 1:
            return self.orders[0].indices(start, count)
        if start % count:
            raise ValueError(f"batches of {count} from several buckets begin at multiples of it, not at {start}")
        step, epoch = start // count, start // sum(order.length for order in self.orders)
        while sum(self._complete(epoch + 1, count)) <= step:
            epoch += 1
        before, after = self._complete(epoch, count), self._complete(epoch + 1, count)
        batches = [(number, row) for number in range(len(before)) for row in range(before[number], after[number])]
        raw = np.random.Philox(key=seed_of(self.seed, "batches", epoch)).random_raw(len(batches))
        number, row = batches[int(np.argsort(raw, kind="stable")[step - sum(before)])]
        return [self.members[number][index] for index in self.orders[number].indices(row * count, count)]

    def _complete(self, epochs: int, count: int) -> list[int]:
        """How many batches of each bucket there are in the first epochs."""
        return [epochs * order.length // count for order in self.orders]
