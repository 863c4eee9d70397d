"""Which image the n-th training sample is."""

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
