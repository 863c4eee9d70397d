"""Batches by number: what a batch holds depends on its position alone, however and wherever it is asked for."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from calotype.data.batch import Batch
from calotype.data.image_set import ImageSet
from calotype.data.order import BatchOrder
from calotype.data.transforms import Transform
from calotype.utils.seeds import generator
from calotype.utils.size import height_width

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")


class Loader:
    """Decodes, transforms and batches ``images`` in the order of ``BatchOrder``, in threads.

    Each size of ``transform`` has a bucket of images, and a batch is of one size. Centre crops are kept in memory as
    raw pixels, up to ``cache_bytes``, and flipped afterwards; random crops are decoded anew each time.
    """

    def __init__(self, images: ImageSet, transform: Transform, seed: int = 0, cache_bytes: int = 2 * 2**30) -> None:
        self.images, self.transform, self.seed = images, transform, seed
        self._buckets = self._choose_sizes()
        self.order = BatchOrder(seed, self._buckets)
        self._transforms = [transform.at(size) for size in transform.sizes]
        self._centre = [replace(each, crop="centre", flip=False) for each in self._transforms]
        self._field_names = images.field_names
        self._cache: dict[tuple[int, int], np.ndarray] = {}
        self._cached = self._cacheable(cache_bytes)
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="loader")
        self._ahead: tuple[tuple[int, range], list[Future[np.ndarray]]] = ((0, range(0)), [])

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> Batch:
        """Return ``rows`` of the batch of samples ``start`` to ``start + count - 1``; only these are decoded.

        A sample's augmentation depends on (seed, position) alone, and so does its image where there is one size; with
        several the images, all of one size, depend on ``count`` as well. Ranks and earlier calls change nothing.

        Raises:
            ImageError: a file has gone or changed.
        """
        self.prefetch(start, count, rows)
        (_, futures), self._ahead = self._ahead, ((0, range(0)), [])
        return self._collate(self.order.batch(start, count)[rows], [future.result() for future in futures])

    def prefetch(self, start: int, count: int, rows: slice = slice(None)) -> None:
        """Start decoding what the next ``batch(start, count, rows)`` will return; replaces what was started before."""
        positions = range(start, start + count)[rows]
        ahead, futures = self._ahead
        if (count, positions) != ahead:
            for future in futures:
                future.cancel()
            samples = zip(self.order.batch(start, count)[rows], positions, strict=True)
            self._ahead = (count, positions), [self._pool.submit(self._sample, *sample) for sample in samples]

    def all(self, chunk: int = 256) -> Iterator[Batch]:
        """Iterate over the whole set in index order, as ``at`` returns it."""
        for start in range(0, len(self), chunk):
            yield self.at(range(start, min(start + chunk, len(self))))

    def at(self, indices: Sequence[int]) -> Batch:
        """Return the images at ``indices``, centre-cropped to the first size and not flipped."""
        return self._collate(indices, self.map(self.crop, indices))

    def crop(self, index: int) -> np.ndarray:
        """Return the raw pixels (h, w, c) of image ``index``, centre-cropped to the first size and not flipped."""
        return self._crop(index, 0)

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Return ``function`` of every item, in order, computed in the loader's threads."""
        return list(self._pool.map(function, items))

    def _sample(self, index: int, position: int) -> np.ndarray:
        """Return the transformed pixels of image ``index`` as sample ``position``."""
        bucket = self._buckets[index]
        transform = self._transforms[bucket]
        draws = None if transform.deterministic else generator(self.seed, "augment", position)
        if transform.crop == "centre":
            return transform.flipped(self._crop(index, bucket), draws)
        return transform.apply(self.images.pixels(index), draws)

    def _crop(self, index: int, bucket: int) -> np.ndarray:
        """Return image ``index``, centre-cropped to a bucket's size, from the cache where it is there."""
        crop = self._cache.get((index, bucket))
        if crop is None:
            crop = self._centre[bucket].apply(self.images.pixels(index))
            if index < self._cached:
                self._cache[index, bucket] = crop
        return crop

    def _collate(self, indices: Sequence[int], crops: Sequence[np.ndarray]) -> Batch:
        if not crops:
            raise ValueError("a batch needs at least one row")
        pixels = self.images.pixel_format.to_model(np.stack(crops))
        records = [self.images.records[index] for index in indices]
        fields = {name: [record.fields.get(name) for record in records] for name in self._field_names}
        return Batch(pixels.permute(0, 3, 1, 2).contiguous(), fields, torch.tensor(indices))

    def _choose_sizes(self) -> list[int]:
        """Return which of the sizes each image is trained on at."""
        if not self.transform.more_sizes:
            return [0] * len(self.images)
        return [self.transform.choose(*self.images.extent(index)) for index in range(len(self.images))]

    def _cacheable(self, cache_bytes: int) -> int:
        """How many images, from the first on, fit into ``cache_bytes``, at the first size and at that of training."""
        pixel_format = self.images.pixel_format
        areas = [height * width for height, width in map(height_width, self.transform.sizes)]
        largest = areas[0] + max(areas[1:], default=0)
        each = largest * pixel_format.channels * np.dtype(pixel_format.dtype).itemsize
        fit = min(len(self), cache_bytes // each)
        if fit < len(self):
            log.warning(
                "%d of %d decoded images fit into the cache of %.2f GiB (all need %.2f); the rest is decoded each time",
                *(fit, len(self), cache_bytes / 2**30, len(self) * each / 2**30),
            )
        return fit
