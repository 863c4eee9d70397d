"""What every embedder can do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Annotated, Any, ClassVar, NamedTuple, Union

from jaxtyping import Bool
from pydantic import Field, PlainSerializer, PlainValidator, TypeAdapter
from torch import Tensor, nn

from calotype.diffusion.conditioning import Conditioning
from calotype.models.autoencoder import Autoencoder
from calotype.utils.config import Config, to_dict
from calotype.utils.errors import UserError


class Widths(NamedTuple):
    """What a network must take: channels of the context's tokens, of the vector and of concat, and classes; 0: none."""

    context: int = 0
    vector: int = 0
    concat: int = 0
    classes: int = 0


class FieldConfig(Config, ABC):
    """What the configurations of embedders share: the ``field`` of the data, and how often training drops it.

    A subclass with a ``kind`` is known from its definition on: wherever a configuration names that kind, it is read as
    this class. That is all there is to an embedder of one's own.
    """

    kinds: ClassVar[dict[str, type["FieldConfig"]]] = {}
    kind: str
    field: str
    dropout: float

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        kind = cls.__dict__.get("kind")
        if not isinstance(kind, str):
            raise TypeError(f"{cls.__name__} needs a kind: Literal['name'] = 'name'")
        known = FieldConfig.kinds.setdefault(kind, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{cls.__name__}: the kind {kind!r} is that of {known.__name__}; choose another")
        FieldConfig.kinds[kind] = cls

    @abstractmethod
    def widths(self, latent_channels: int) -> Widths:
        """Return what the embedder brings to each slot of a network for latents of ``latent_channels``."""

    @abstractmethod
    def build(self) -> "Embedder":
        """Make the embedder with fresh weights."""

    @property
    def context_channels(self) -> int | None:
        """Width of the context tokens that the embedder makes, None where it makes none."""
        return self.widths(1).context or None

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
    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Tensor:
        """Map one value per image to a tensor (b, ...) on the CPU; ``None`` maps to the null input.

        ``size`` is the (height, width) of the images in pixels, which the null of an image needs.

        Raises:
            UserError: a value that this embedder cannot take, or a missing one where it has no null.
        """

    @abstractmethod
    def null(self, count: int, size: tuple[int, int] | None = None) -> Tensor:
        """Return the null input for ``count`` images of ``size``.

        Raises:
            UserError: there is none, or it is an image and ``size`` is not given.
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


@lru_cache(maxsize=1)
def _reader(kinds: tuple[type[FieldConfig], ...]) -> Any:
    choice: Any = Annotated[Union[kinds], Field(discriminator="kind")]  # noqa: UP007 (known at run time only)
    return TypeAdapter(choice)


def _read(data: Any) -> FieldConfig:
    """Return the configuration that ``data`` describes, by its ``kind``."""
    if isinstance(data, FieldConfig):
        return data
    read: FieldConfig = _reader(tuple(FieldConfig.kinds.values())).validate_python(data)
    return read


EmbedderConfig = Annotated[FieldConfig, PlainValidator(_read), PlainSerializer(to_dict)]
"""Any embedder's configuration, told apart by its ``kind``."""
