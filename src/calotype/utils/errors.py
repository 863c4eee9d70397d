"""The one exception that a user's mistake raises."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that the user can mend: one line that says what to do. The CLI prints it and exits with 2."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice nearest to ``word``, or ``""`` where none is near."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.4)
    return f" Did you mean {matches[0]!r}?" if matches else ""
