"""The nearest of many vectors: exactly, by a matrix product, or in a graph where there are very many."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LARGE = 200_000
_ROWS = 256


class Search:
    """Finds, of ``vectors``, those that are nearest to a query by the cosine of their angle.

    With ``centred`` angles are measured from the vectors' mean, which tells apart vectors that all point about the same
    way. Of more than 200,000 vectors the library ``usearch``, where it is installed, finds nearly all of the nearest in
    a fraction of the time.
    """

    def __init__(self, vectors: Float[Tensor, "n d"], *, centred: bool = True) -> None:
        self.mean = vectors.float().mean(0) if centred else torch.zeros(vectors.shape[1])
        self.directions = self._directions(vectors)

    def nearest(
        self, queries: Float[Tensor, "m d"], k: int, barred: Sequence[Collection[int]] | None = None
    ) -> list[list[int]]:
        """Return the numbers of up to ``k`` vectors for each query, nearest first, without those ``barred`` to it."""
        barred = [()] * len(queries) if barred is None else barred
        wanted = min(k + max(map(len, barred), default=0), len(self.directions))
        numbers = [row for part in self._directions(queries).split(_ROWS) for row in self._ranked(part, wanted)]
        return [
            [number for number in row if number not in out][:k]
            for row, out in zip(numbers, map(frozenset, barred), strict=True)
        ]

    def _directions(self, vectors: Tensor) -> Float[Tensor, "n d"]:
        return F.normalize(vectors.float() - self.mean, dim=1)

    def _ranked(self, queries: Tensor, count: int) -> list[list[int]]:
        if self._graph is not None:
            keys = self._graph.search(queries.numpy(), count).keys
            return [[int(key) for key in row] for row in np.atleast_2d(keys)]
        return (queries @ self.directions.T).topk(count, dim=1).indices.tolist()

    @cached_property
    def _graph(self) -> Any:
        if len(self.directions) <= LARGE:
            return None
        try:
            from usearch.index import Index
        except ImportError:
            return None
        graph = Index(ndim=self.directions.shape[1], metric="ip", dtype="f16")
        graph.add(np.arange(len(self.directions)), self.directions.numpy())
        return graph
