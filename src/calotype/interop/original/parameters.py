"""The original's YAML files read as data: size and form are checked, and every parameter must be one that is known."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from calotype.utils.errors import UserError, nearest

MOST_BYTES, MOST_NUMBER, MOST_REPEATS, MOST_ITEMS = 128 * 2**10, 2**20, 256, 16
MOST_DEPTH = 32
T = TypeVar("T")
_REQUIRED: Any = object()


class Parameters:
    """The parameters of one ``target:``, taken one by one; ``finish`` complains about those that nobody took."""

    def __init__(self, target: str, values: Any) -> None:
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise UserError(f"{target}: its params must be named values")
        self.target, self.values, self.taken = target, values, set[str]()

    def value(self, name: str, default: Any = _REQUIRED) -> Any:
        """Take a parameter as it is."""
        self.taken.add(name)
        if name not in self.values and default is _REQUIRED:
            raise UserError(f"{self.target} lacks its parameter {name!r}")
        return self.values.get(name, default)

    def integer(self, name: str, default: Any = _REQUIRED, *, most: int = MOST_NUMBER) -> Any:
        """Take a natural number up to ``most``; -1, the original's word for "not given", and null are None."""
        value = self.value(name, default)
        if value is None or value is default or value == -1:
            return None if value == -1 else value
        if type(value) is not int or not 0 <= value <= most:
            raise self.wrong(name, f"a whole number up to {most:,}")
        return value

    def integers(self, name: str, default: Any = _REQUIRED) -> tuple[int, ...]:
        """Take a short list of natural numbers."""
        value = self.value(name, default)
        fits = isinstance(value, list | tuple) and len(value) <= MOST_ITEMS
        if not fits or not all(type(item) is int and 0 <= item <= MOST_NUMBER for item in value):
            raise self.wrong(name, f"at most {MOST_ITEMS} whole numbers")
        return tuple(value)

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """Take a number; YAML leaves those like 1e-6 as text."""
        value = self.value(name, default)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.wrong(name, "a number")
        return number

    def flag(self, name: str, default: bool) -> bool:
        """Take true or false."""
        value = self.value(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def choice(self, name: str, choices: Mapping[str, T], default: Any = _REQUIRED) -> T:
        """Take one of several words and return what it stands for."""
        value = self.value(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, f"one of {', '.join(choices)}")
        return choices[value]

    def only(self, **values: Any) -> None:
        """Take parameters that are read at these values alone."""
        for name, wanted in values.items():
            if self.value(name, wanted) != wanted:
                raise UserError(f"{self.target}: {name} is read only as {wanted!r}, not {_short(self.values[name])}")

    def ignore(self, *names: str) -> None:
        """Take parameters that do not matter to a trained model."""
        self.taken.update(names)

    def finish(self) -> None:
        """Raise ``UserError`` about the first parameter that is not known."""
        for name in self.values:
            if name not in self.taken:
                raise UserError(f"{self.target} has no parameter {name[:80]!r}.{nearest(name, self.taken)}")

    def make(self, config: Callable[..., T], **fields: Any) -> T:
        """Build one of our configurations, after ``finish``."""
        self.finish()
        return self.make_part(config, **fields)

    def make_part(self, config: Callable[..., T], **fields: Any) -> T:
        """Build one of our configurations; what it says against its fields, it says to the user."""
        try:
            return config(**fields)
        except ValueError as error:
            raise UserError(f"{self.target}: {error}") from None

    def wrong(self, name: str, wanted: str) -> UserError:
        """Return the error for a parameter of the wrong form."""
        return UserError(f"{self.target}: {name} must be {wanted}, not {_short(self.values.get(name))}")


def section(target_of: str, node: Any, also: tuple[str, ...] = ()) -> tuple[str, Parameters]:
    """Split a ``{target: ..., params: {...}}`` into its target and its parameters; ``also`` names further entries."""
    target = node.get("target") if isinstance(node, Mapping) else None
    if not isinstance(target, str):
        raise UserError(f"{target_of} must have a target, not {_short(node)}")
    if unknown := node.keys() - {"target", "params", *also}:
        raise UserError(f"{target_of} has an unknown entry {str(min(unknown, key=str))[:80]!r}")
    return target, Parameters(target.rpartition(".")[2][:80], node.get("params") or {})


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain data.

    Raises:
        UserError: it is missing, too large, no YAML, or uses aliases.
    """
    import yaml

    try:
        data = path.read_bytes() if path.stat().st_size <= MOST_BYTES else None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if data is None:
        raise UserError(f"{path} is too large to be a configuration (more than {MOST_BYTES:,} bytes)")
    try:
        _check_events(yaml.parse(data, Loader=yaml.SafeLoader))
        return yaml.safe_load(data)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read as YAML: {reason}") from None


def _check_events(events: Iterable[Any]) -> None:
    import yaml

    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it uses aliases, with which a few lines can mean gigabytes: write the values out")
        if isinstance(event, yaml.CollectionStartEvent | yaml.CollectionEndEvent):
            depth += 1 if isinstance(event, yaml.CollectionStartEvent) else -1
        if depth > MOST_DEPTH:
            raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
