"""Batches by number: what a batch holds depends on its position alone, however and wherever it is asked for."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from calotype.data.batch import Batch
from calotype.data.image_set import ImageSet
from calotype.data.order import Order
from calotype.data.transforms import Transform
from calotype.utils.seeds import generator

log = logging.getLogger(__name__)


class Loader:
    """Decodes, transforms and batches ``images`` in the order of ``Order(seed, len(images))``, in threads.

    Centre-cropped squares are kept in memory as raw pixels, up to ``cache_bytes``, and flipped afterwards; random crops
    are decoded anew each time.
    """

    def __init__(self, images: ImageSet, transform: Transform, seed: int = 0, cache_bytes: int = 2 * 2**30) -> None:
        self.images, self.transform, self.seed = images, transform, seed
        self.order = Order(seed, len(images))
        self._centre = replace(transform, crop="centre", flip=False)
        self._field_names = images.field_names
        self._cache: dict[int, np.ndarray] = {}
        self._cached = self._cacheable(cache_bytes)
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="loader")
        self._ahead: tuple[range, list[Future[np.ndarray]]] = (range(0), [])

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> Batch:
        """Return ``rows`` of the batch of samples ``start`` to ``start + count - 1``; only these are decoded.

        A sample's image and its augmentation depend on (seed, position) alone, not on batches, ranks or earlier calls.

        Raises:
            ImageError: a file has gone or changed.
        """
        positions = range(start, start + count)[rows]
        self.prefetch(start, count, rows)
        (_, futures), self._ahead = self._ahead, (range(0), [])
        return self._collate([self.order.index(position) for position in positions], [f.result() for f in futures])

    def prefetch(self, start: int, count: int, rows: slice = slice(None)) -> None:
        """Start decoding what the next ``batch(start, count, rows)`` will return; replaces what was started before."""
        positions = range(start, start + count)[rows]
        ahead, futures = self._ahead
        if positions != ahead:
            for future in futures:
                future.cancel()
            self._ahead = positions, [self._pool.submit(self._sample, position) for position in positions]

    def all(self, chunk: int = 256) -> Iterator[Batch]:
        """Iterate over the whole set in index order, centre-cropped and not flipped."""
        for start in range(0, len(self), chunk):
            yield self.at(range(start, min(start + chunk, len(self))))

    def at(self, indices: Sequence[int]) -> Batch:
        """Return the images at ``indices``, centre-cropped and not flipped."""
        return self._collate(indices, list(self._pool.map(self._square, indices)))

    def _sample(self, position: int) -> np.ndarray:
        """Return the transformed pixels of sample ``position``."""
        index = self.order.index(position)
        draws = None if self.transform.deterministic else generator(self.seed, "augment", position)
        if self.transform.crop == "centre":
            return self.transform.flipped(self._square(index), draws)
        return self.transform.apply(self.images.pixels(index), draws)

    def _square(self, index: int) -> np.ndarray:
        """Return the centre square of image ``index``, from the cache where it is there."""
        square = self._cache.get(index)
        if square is None:
            square = self._centre.apply(self.images.pixels(index))
            if index < self._cached:
                self._cache[index] = square
        return square

    def _collate(self, indices: Sequence[int], squares: Sequence[np.ndarray]) -> Batch:
        if not squares:
            raise ValueError("a batch needs at least one row")
        pixels = self.images.pixel_format.to_model(np.stack(squares))
        records = [self.images.records[index] for index in indices]
        fields = {name: [record.fields.get(name) for record in records] for name in self._field_names}
        return Batch(pixels.permute(0, 3, 1, 2).contiguous(), fields, torch.tensor(indices))

    def _cacheable(self, cache_bytes: int) -> int:
        """How many images' squares, from the first on, fit into ``cache_bytes``."""
        pixel_format = self.images.pixel_format
        each = self.transform.size**2 * pixel_format.channels * np.dtype(pixel_format.dtype).itemsize
        fit = min(len(self), cache_bytes // each)
        if fit < len(self):
            log.warning(
                "%d of %d decoded images fit into the cache of %.2f GiB (all need %.2f); the rest is decoded each time",
                *(fit, len(self), cache_bytes / 2**30, len(self) * each / 2**30),
            )
        return fit
