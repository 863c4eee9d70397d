"""What every embedder can do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn

from calotype.diffusion.conditioning import Conditioning
from calotype.models.autoencoder import Autoencoder
from calotype.utils.config import Config
from calotype.utils.errors import UserError


class FieldConfig(Config):
    """What the configurations of embedders share: the ``field`` of the data, and how often training drops it."""

    field: str
    dropout: float

    @property
    def context_channels(self) -> int | None:
        """Width of the context tokens that the embedder makes, None where it makes none."""
        return None

    def check_dropout(self, *, null: bool = True) -> None:
        """Raise ``ValueError`` where ``dropout`` is no share, or needs a null that is not there."""
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout must be between 0 and 1, not {self.dropout}")
        if self.dropout and not null:
            raise ValueError(f"dropout must be 0 where there is no null to drop to, not {self.dropout}")


class Embedder(nn.Module, ABC):
    """Turns the values of one field into a part of a ``Conditioning``.

    The work is in two steps, so that strings stay on the host and the network sees tensors: ``prepare`` maps values to
    one tensor, of integers (classes, tokens) or of floats (images, embeddings), ``forward`` embeds it. A missing value
    (``None``), a dropped one and the null of guidance are all the same thing: the embedder's one null input, chosen row
    by row. A model that was trained without one has no null: then every image needs a value.
    """

    field: str
    dropout: float

    @property
    def has_null(self) -> bool:
        """Whether values may be missing or dropped, and the model be guided."""
        return True

    @abstractmethod
    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is one that ``prepare`` can map; None, the missing value, is not."""

    @abstractmethod
    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Map one value per image to a tensor (b, ...) on the CPU; ``None`` maps to the null input.

        Raises:
            UserError: a value that this embedder cannot take, or a missing one where it has no null.
        """

    @abstractmethod
    def null(self, count: int) -> Tensor:
        """Return the null input for ``count`` images.

        Raises:
            UserError: there is none, or its size is that of images which are not known here.
        """

    @abstractmethod
    def forward(self, inputs: Tensor, drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Embed prepared inputs; rows where ``drop`` is True get the null instead (without a null, they are kept)."""

    def augment(self, value: Any, others: dict[str, Any], random: Random) -> Any:  # noqa: ARG002
        """Vary a value in training (``others``: the record's other fields). The default leaves it alone."""
        return value

    def attach(self, autoencoder: Autoencoder) -> None:
        """Take note of the model's autoencoder. The default has no use for it."""

    def missing(self) -> UserError:
        """Return the error for a value that is not there and cannot be replaced by a null."""
        return UserError(f"{self.field}: this model needs a value for every image")
