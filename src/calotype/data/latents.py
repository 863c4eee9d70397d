"""Latents on disk: an autoencoder's posteriors over a data set, encoded once, sampled when they are trained on."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calotype.data.fields import FieldReader
from calotype.data.image_set import Record
from calotype.data.order import Order
from calotype.utils.errors import UserError
from calotype.utils.files import atomic_write
from calotype.utils.seeds import seed_of
from calotype.utils.tensors import load_tensors, save_tensors

SHARD = 512


@dataclass(frozen=True)
class Moments:
    """What there is to know of posteriors over raw latents: their means and, unless they are points, log-variances."""

    mean: Float[Tensor, "b c h w"]
    logvar: Float[Tensor, "b c h w"] | None = None

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, rows: Int[Tensor, " n"]) -> "Moments":
        return self._each(lambda tensor: tensor[rows])

    def to(self, like: Tensor) -> "Moments":
        """Return these moments in the dtype and on the device of ``like``."""
        return self._each(lambda tensor: tensor.to(like))

    def sample(self, noise: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return ``mean + std * noise``; the mean where there is no variance."""
        return self.mean if self.logvar is None else self.mean + torch.exp(self.logvar / 2) * noise

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored, by name."""
        return {"mean": self.mean} if self.logvar is None else {"mean": self.mean, "logvar": self.logvar}

    @classmethod
    def cat(cls, parts: Sequence["Moments"]) -> "Moments":
        """Join moments of the same kind."""
        names = parts[0].tensors()
        return cls(**{name: torch.cat([part.tensors()[name] for part in parts]) for name in names})

    @staticmethod
    def where(rows: Bool[Tensor, " b"], first: "Moments", second: "Moments") -> "Moments":
        """Return ``first`` in these rows, ``second`` in the others; both are of the same kind."""
        mask, other = rows.view(-1, 1, 1, 1), second.tensors()
        return Moments(**{name: torch.where(mask, tensor, other[name]) for name, tensor in first.tensors().items()})

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Moments":
        return Moments(**{name: change(tensor) for name, tensor in self.tensors().items()})


@dataclass(frozen=True)
class LatentBatch:
    """Posterior moments with the fields of their records."""

    moments: Moments
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

    def fill(self, encode: Callable[[range], Moments]) -> Iterator[int]:
        """Encode and write what is missing, shard by shard; yield the number of images done."""
        for rows in self.missing():
            moments = encode(rows)
            assert len(moments) == len(rows)
            with atomic_write(self._path(rows)) as temporary:
                save_tensors(temporary, {name: tensor.float() for name, tensor in moments.tensors().items()})
            yield len(rows)

    def moments(self) -> Moments:
        """Read all moments, in the order of the data set.

        Raises:
            ValueError: the store is not complete.
        """
        shards = [self._read(rows) for rows in self._shards()]
        complete = [shard for shard in shards if shard is not None]
        if len(complete) < len(shards):
            raise ValueError(f"{self.folder} is incomplete: encode it again")
        return Moments.cat(complete)

    def _shards(self) -> list[range]:
        return [range(start, min(start + SHARD, self.count)) for start in range(0, self.count, SHARD)]

    def _path(self, rows: range) -> Path:
        return self.folder / f"{rows.start:08d}.safetensors"

    def _read(self, rows: range) -> Moments | None:
        try:
            moments = Moments(**load_tensors(self._path(rows)))
        except (UserError, TypeError):
            return None
        return moments if len(moments) == len(rows) else None


class LatentLoader:
    """Batches of stored latents by number, in the order of ``Order(seed, n)``: the latent counterpart of ``Loader``.

    With ``mirrored``, the latents of the mirrored images, each sample of a batch is one of these half the time. A
    ``reader`` makes the fields of the batches; without one they are the plain fields of the records.
    """

    def __init__(
        self,
        moments: Moments,
        records: Sequence[Record],
        seed: int = 0,
        mirrored: Moments | None = None,
        reader: FieldReader | None = None,
    ) -> None:
        for latents in (moments, moments if mirrored is None else mirrored):
            if len(latents) != len(records):
                raise ValueError(f"{len(latents)} latents for {len(records)} records")
        self.moments, self.mirrored, self.seed, self.reader = moments, mirrored, seed, reader
        self.records, self.order = tuple(records), Order(seed, len(records))
        self.names = tuple(sorted({name for record in records for name in record.fields}))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fields")
        self._ahead: tuple[range, Future[dict[str, list[Any]]]] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> LatentBatch:
        """Return ``rows`` of the batch of samples ``start`` to ``start + count - 1``.

        Raises:
            ImageError: a file has gone or changed.
        """
        positions = range(start, start + count)[rows]
        self.prefetch(start, count, rows)
        (_, fields), self._ahead = self._ahead or (positions, None), None
        index = torch.tensor([self.order.index(position) for position in positions])
        moments = self.moments[index]
        if self.mirrored is not None:
            moments = Moments.where(torch.tensor(self._turned(positions)), self.mirrored[index], moments)
        return LatentBatch(moments, self._plain(index.tolist()) if fields is None else fields.result(), index)

    def prefetch(self, start: int, count: int, rows: slice = slice(None)) -> None:
        """Start reading the fields that the next ``batch(start, count, rows)`` will return; latents are in memory."""
        positions = range(start, start + count)[rows]
        if self.reader is None or (self._ahead is not None and self._ahead[0] == positions):
            return
        if self._ahead is not None:
            self._ahead[1].cancel()
        indices = [self.order.index(position) for position in positions]
        self._ahead = (
            positions,
            self._pool.submit(self.reader.for_training, indices, positions, self._turned(positions)),
        )

    def at(self, indices: Sequence[int]) -> LatentBatch:
        """Return the latents at ``indices``, of the images as they are."""
        index = torch.as_tensor(indices, dtype=torch.long)
        fields = self._plain(indices) if self.reader is None else self.reader.at(indices)
        return LatentBatch(self.moments[index], fields, index)

    def _plain(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        return {name: [self.records[i].fields.get(name) for i in indices] for name in self.names}

    def _turned(self, positions: range) -> list[bool]:
        """Say which of the samples are mirrored."""
        if self.mirrored is None:
            return [False] * len(positions)
        return [seed_of(self.seed, "mirror", position) % 2 == 0 for position in positions]
