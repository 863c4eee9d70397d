"""Random draws of a training step: made for the global batch, so that the number of processes changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from calotype.utils.seeds import generator


@dataclass(frozen=True)
class Draws:
    """Draws for the ``count`` samples from ``seen`` on; this process gets ``rows`` of them.

    Every draw is a pure function of (seed, stream, seen): a resumed run draws what the uninterrupted one would have.
    """

    seed: int
    seen: int
    count: int
    rows: slice

    def normal(self, stream: str, *shape: int) -> Tensor:
        """Draw standard normal values of ``shape`` for each of this process's samples."""
        return torch.randn((self.count, *shape), generator=self._generator(stream))[self.rows]

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """Draw values from [0, 1)."""
        return torch.rand((self.count, *shape), generator=self._generator(stream))[self.rows]

    def make(self, stream: str, sample: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """Draw by ``sample(count, generator)``, one value per sample of the global batch."""
        return sample(self.count, self._generator(stream))[self.rows]

    def keys(self, stream: str) -> list[tuple[int | str, ...]]:
        """Return a key for each of this process's samples, for draws that are made one sample at a time."""
        return [(self.seed, stream, self.seen + row) for row in range(self.count)[self.rows]]

    def _generator(self, stream: str) -> torch.Generator:
        return generator(self.seed, stream, self.seen)
