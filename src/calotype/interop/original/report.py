"""What became of every tensor of a checkpoint."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from calotype.utils.errors import UserError

MOST_LISTED = 10


@dataclass(frozen=True)
class Row:
    """``tensors`` tensors of ``numbers`` numbers together, by the name of their group, and their ``fate``."""

    group: str
    tensors: int
    numbers: int
    fate: str


@dataclass(frozen=True)
class Report:
    """Every tensor of a checkpoint in one row; prints as a table.

    ``facts`` and ``foreign`` are those of ``reader.Checkpoint``.
    """

    rows: tuple[Row, ...]
    facts: Mapping[str, int | str]
    foreign: tuple[str, ...]

    @property
    def tensors(self) -> int:
        """How many tensors the checkpoint held."""
        return sum(row.tensors for row in self.rows)

    def __str__(self) -> str:
        wide = max(len(row.group) for row in self.rows)
        lines = [f"{row.group:<{wide}}  {row.tensors:>5}  {row.numbers:>13,}  {row.fate}" for row in self.rows]
        lines.insert(0, f"{'keys':<{wide}}  {'':>5}  {'numbers':>13}  what became of them")
        if self.facts:
            lines.append(", ".join(f"{name} {value}" for name, value in self.facts.items()))
        if self.foreign:
            rest = "" if len(self.foreign) <= MOST_LISTED else f" and {len(self.foreign) - MOST_LISTED} more"
            lines.append(f"objects left out: {', '.join(self.foreign[:MOST_LISTED])}{rest}")
        return "\n".join(lines)


class Account:
    """The tensors that have not been accounted for, and the rows of those that have."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.left = dict(state)
        self.rows: list[Row] = []

    def take(self, group: str, wanted: Callable[[str], bool] | Iterable[str], fate: str) -> dict[str, Tensor]:
        """Move tensors, by their keys or by what holds of them, from ``left`` into a row; no tensors make no row."""
        keys = [key for key in self.left if wanted(key)] if callable(wanted) else list(wanted)
        taken = {key: self.left.pop(key) for key in keys}
        if taken:
            self.rows.append(Row(group, len(taken), sum(tensor.numel() for tensor in taken.values()), fate))
        return taken


def check_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ``UserError`` that lists the keys that ``state`` lacks or should not have, and those of another shape."""
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    wrong = [
        f"{key} {list(state[key].shape)} for {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    if found := [f"{len(keys)} {kind} ({_listed(keys)})" for kind, keys in kinds.items() if keys]:
        raise UserError(f"the checkpoint does not fit its configuration: {'; '.join(found)}")


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:MOST_LISTED]) + (", ..." if len(keys) > MOST_LISTED else "")
