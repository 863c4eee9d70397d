"""What a class of diffusers reads from its configuration, and which of it has a meaning here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calotype.utils.errors import UserError

VERSION = "0.42.1"


@dataclass(frozen=True)
class Layout:
    """The configuration of one class of diffusers, every key of which is of one of three sorts.

    ``mapped``: read and written, with the default that the class has. ``fixed``: changes what the network computes and
    has one meaning here: the values that stand for it, the first of them the one that is written. ``inert``: says
    nothing about what is computed.
    """

    name: str
    mapped: Mapping[str, Any]
    fixed: Mapping[str, tuple[Any, ...]]
    inert: frozenset[str] = frozenset()

    def read(self, data: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return the values of the mapped keys.

        Raises:
            UserError: a key that is unknown, or one with a value that has no counterpart here.
        """
        for key, value in data.items():
            if key in self.fixed and value not in self.fixed[key]:
                raise UserError(
                    f"{where}: {key} {value!r} has no counterpart in calotype (only {self.fixed[key][0]!r})"
                )
            if not (key in self.mapped or key in self.fixed or key in self.inert or key.startswith("_")):
                raise UserError(
                    f"{where}: {key!r} is unknown and may change what {self.name} computes; remove it if not"
                )
        return {key: data.get(key, default) for key, default in self.mapped.items()}

    def write(self, **values: Any) -> dict[str, Any]:
        """Return a configuration with these values of mapped keys, the others at their defaults."""
        if unknown := values.keys() - self.mapped.keys():
            raise KeyError(f"{self.name} has no {sorted(unknown)}")
        stamp = {"_class_name": self.name, "_diffusers_version": VERSION}
        return stamp | {key: allowed[0] for key, allowed in self.fixed.items()} | dict(self.mapped) | values


def refuse(what: str, reason: str) -> UserError:
    """Return the error for an option that has no image in diffusers."""
    return UserError(f"{what}: diffusers has no image of it: {reason}")


def image_size(sample_size: int | list[int]) -> int:
    """Return the side of ``sample_size``, the longer one where it states two."""
    return max(sample_size) if isinstance(sample_size, list) else sample_size
