"""Latents on disk: an autoencoder's posteriors over a data set, encoded once, sampled when they are trained on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

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

    With ``mirrored``, the latents of the mirrored images, each sample of a batch is one of these half the time.
    """

    def __init__(
        self, moments: Moments, records: Sequence[Record], seed: int = 0, mirrored: Moments | None = None
    ) -> None:
        for latents in (moments, moments if mirrored is None else mirrored):
            if len(latents) != len(records):
                raise ValueError(f"{len(latents)} latents for {len(records)} records")
        self.moments, self.mirrored, self.seed = moments, mirrored, seed
        self.records, self.order = tuple(records), Order(seed, len(records))
        self.names = tuple(sorted({name for record in records for name in record.fields}))

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> LatentBatch:
        """Return ``rows`` of the batch of samples ``start`` to ``start + count - 1``."""
        positions = range(start, start + count)[rows]
        batch = self.at([self.order.index(position) for position in positions])
        if self.mirrored is None:
            return batch
        turned = torch.tensor([seed_of(self.seed, "mirror", position) % 2 == 0 for position in positions])
        return replace(batch, moments=Moments.where(turned, self.mirrored[batch.indices], batch.moments))

    def prefetch(self, start: int, count: int, rows: slice = slice(None)) -> None:
        """Do nothing: latents are in memory."""

    def at(self, indices: Sequence[int]) -> LatentBatch:
        """Return the latents at ``indices``, of the images as they are."""
        index = torch.as_tensor(indices, dtype=torch.long)
        fields = {name: [self.records[i].fields.get(name) for i in indices] for name in self.names}
        return LatentBatch(self.moments[index], fields, index)
