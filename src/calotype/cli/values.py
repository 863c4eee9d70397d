"""Values that several verbs take."""

import math
from pathlib import Path

from calotype.utils.errors import UserError

MOST_SEEDS = 100_000


def parse_seeds(text: str) -> list[int]:
    """Return the numbers of a list such as ``3,7,20-23``.

    Raises:
        UserError: it is no such list, or names more than 100,000 seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"--seeds must be numbers and ranges such as 0-15 or 3,7,20-23, not {text!r}")
        low, high = int(first), int(last or first)
        if high < low or len(seeds) + high - low >= MOST_SEEDS:
            raise UserError(f"--seeds: {part.strip()!r} is an empty range, or more than {MOST_SEEDS} seeds")
        seeds += range(low, high + 1)
    return seeds


def parse_numbers(text: str, option: str, names: str) -> list[int]:
    """Return the numbers of a list such as ``10,20,64,48``: as many as there are ``names`` (``x,y,width,height``).

    Raises:
        UserError: it is no such list.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != len(names.split(",")) or not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise UserError(f"{option} must be {names} in pixels such as 10,20,64,48, not {text!r}")
    return [int(part) for part in parts]


def parse_interval(text: str) -> tuple[float, float]:
    """Return the two noise levels of an interval such as ``0.3-5``.

    Raises:
        UserError: it is no such interval.
    """
    try:
        low, high = (float(part) for part in text.split("-"))
    except ValueError:
        low, high = math.nan, math.nan
    if not 0 <= low < high:
        raise UserError(f"--guidance-interval must be two rising noise levels such as 0.3-5, not {text!r}")
    return low, high


def clipped_text(clipped: int, total: int) -> str:
    """Say how many of the decoder's values no file of this format can hold."""
    return f"{clipped} of {total} values ({clipped / total:.2%}) were out of range and clipped"


def check_positive(**options: int | float | None) -> None:
    """Refuse options (by their names in Python) that are given but not above 0, or not finite.

    Raises:
        UserError: names the first.
    """
    for name, value in options.items():
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, not {value:g}")


def check_seed(seed: int) -> None:
    """Refuse seeds that torch cannot take.

    Raises:
        UserError: it is negative, or does not fit into 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed must be between 0 and 2^63 - 1, not {seed}")


def model_folder(model: str) -> Path:
    """Return the folder of a model: the one named, or that of the model in the package for ``emoji``.

    Raises:
        UserError: the installation lacks the embedded model.
    """
    from calotype.presets.embedded import embedded_model

    return embedded_model() if model == "emoji" and not Path(model).exists() else Path(model)
