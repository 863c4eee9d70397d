"""Values that several verbs take."""

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
