"""From a value to token ids: what the ways of doing it share, and the simplest one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from calotype.utils.config import Config


class Tokens(ABC):
    """Maps a value to exactly ``length`` token ids."""

    length: int

    @abstractmethod
    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is of the kind that ``encode`` maps."""

    @abstractmethod
    def encode(self, value: Any) -> list[int]:
        """Return ``length`` ids.

        Raises:
            UserError: a value that cannot be mapped; one line that says why.
        """

    @abstractmethod
    def empty(self) -> list[int]:
        """Return the ids of a value that says nothing: the null."""

    def vary(self, value: Any, random: Random) -> Any:  # noqa: ARG002
        """Vary a value in training. The default leaves it alone."""
        return value


@dataclass(frozen=True, kw_only=True)
class TokenIdsConfig(Config):
    """Values are token ids already; there is no empty value, and so no null."""

    kind: Literal["ids"] = "ids"

    def check(self, length: int, vocabulary_size: int) -> None:
        """Accept every length and size."""

    def build(self, length: int) -> None:
        """Make nothing: the ids are passed on."""


def are_ids(value: Any) -> bool:
    """Return whether ``value`` is a list or tensor of token ids (at least one)."""
    items = value.tolist() if hasattr(value, "tolist") else value
    return isinstance(items, Sequence) and len(items) > 0 and all(type(item) is int for item in items)
