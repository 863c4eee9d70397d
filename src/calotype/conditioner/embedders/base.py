"""What every embedder can do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from calotype.diffusion.conditioning import Conditioning


class Embedder(nn.Module, ABC):
    """Turns the values of one field into a part of a ``Conditioning``.

    The work is in two steps, so that strings stay on the host and the network sees tensors: ``prepare`` maps values to
    one integer tensor, ``forward`` embeds it. A missing value (``None``), a dropped one and the null of guidance are
    all the same thing: the embedder's one null input, chosen row by row.
    """

    field: str
    dropout: float

    @abstractmethod
    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is one that ``prepare`` can map; None, the missing value, is not."""

    @abstractmethod
    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Map one value per image to an integer tensor (b, ...) on the CPU; ``None`` maps to the null input.

        Raises:
            UserError: a value that this embedder cannot take.
        """

    @abstractmethod
    def null(self, count: int) -> Tensor:
        """Return the null input for ``count`` images."""

    @abstractmethod
    def forward(self, inputs: Tensor, drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Embed prepared inputs; rows where ``drop`` is True get the null instead."""

    def augment(self, value: Any, others: dict[str, Any], random: Random) -> Any:  # noqa: ARG002
        """Vary a value in training (``others``: the record's other fields). The default leaves it alone."""
        return value
