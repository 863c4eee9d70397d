"""Latents on disk: an autoencoder's posterior moments over a data set, encoded once, sampled when they are loaded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calotype.data.image_set import Record
from calotype.data.order import Order
from calotype.utils.errors import UserError
from calotype.utils.files import atomic_write
from calotype.utils.tensors import load_tensors, save_tensors

SHARD = 512


@dataclass(frozen=True)
class LatentBatch:
    """Posterior moments (raw mean and log-variance, joined over channels) with the fields of their records."""

    moments: Float[Tensor, "b c h w"]
    fields: dict[str, list[Any]]
    indices: Int[Tensor, " b"]


class LatentStore:
    """Moments of ``count`` images in shards of 512 under ``folder / key``.

    ``key`` is a hash of everything that the moments depend on: weights, transform, data. A shard is complete or absent,
    so that filling can stop and go on; a changed key is a new store, so that stale latents cannot be read.
    """

    def __init__(self, folder: Path, key: str, count: int) -> None:
        self.folder, self.count = folder / key, count

    def missing(self) -> list[range]:
        """Return the ranges of images whose shard is not there yet (or cannot be read)."""
        return [rows for rows in self._shards() if self._read(rows) is None]

    def fill(self, encode: Callable[[range], Float[Tensor, "b c h w"]]) -> Iterator[int]:
        """Encode and write what is missing, shard by shard; yield the number of images done."""
        for rows in self.missing():
            moments = encode(rows)
            assert len(moments) == len(rows)
            with atomic_write(self._path(rows)) as temporary:
                save_tensors(temporary, {"moments": moments.float()})
            yield len(rows)

    def moments(self) -> Float[Tensor, "n c h w"]:
        """Read all moments, in the order of the data set.

        Raises:
            ValueError: the store is not complete.
        """
        shards = [self._read(rows) for rows in self._shards()]
        complete = [shard for shard in shards if shard is not None]
        if len(complete) < len(shards):
            raise ValueError(f"{self.folder} is incomplete: encode it again")
        return torch.cat(complete)

    def _shards(self) -> list[range]:
        return [range(start, min(start + SHARD, self.count)) for start in range(0, self.count, SHARD)]

    def _path(self, rows: range) -> Path:
        return self.folder / f"{rows.start:08d}.safetensors"

    def _read(self, rows: range) -> Tensor | None:
        try:
            moments = load_tensors(self._path(rows))["moments"]
        except (UserError, KeyError):
            return None
        return moments if len(moments) == len(rows) else None


class LatentLoader:
    """Batches of stored latents by number, in the order of ``Order(seed, n)``: the latent counterpart of ``Loader``."""

    def __init__(self, moments: Float[Tensor, "n c h w"], records: Sequence[Record], seed: int = 0) -> None:
        if len(moments) != len(records):
            raise ValueError(f"{len(moments)} latents for {len(records)} records")
        self.moments, self.records, self.order = moments, tuple(records), Order(seed, len(records))
        self.names = tuple(sorted({name for record in records for name in record.fields}))

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> LatentBatch:
        """Return ``rows`` of the batch of samples ``start`` to ``start + count - 1``."""
        return self.at([self.order.index(position) for position in range(start, start + count)[rows]])

    def prefetch(self, start: int, count: int, rows: slice = slice(None)) -> None:
        """Do nothing: latents are in memory."""

    def at(self, indices: Sequence[int]) -> LatentBatch:
        """Return the latents at ``indices``."""
        index = torch.as_tensor(indices, dtype=torch.long)
        fields = {name: [self.records[i].fields.get(name) for i in indices] for name in self.names}
        return LatentBatch(self.moments[index], fields, index)
