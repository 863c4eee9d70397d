"""Progress with throughput and the time left: a bar on a terminal, a line every few seconds elsewhere."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from calotype.utils import distributed

log = logging.getLogger("calotype")
LINE_SECONDS = 15.0


class Progress:
    """How far a piece of work has come; ``advance`` it by units done, with a few words on how it goes."""

    def __init__(self, description: str, total: int, done: int, unit: str) -> None:
        self.description, self.total, self.done, self.unit = description, total, done, unit
        self.initial, self.started = done, time.monotonic()
        self.note = ""

    def advance(self, count: int, note: str = "") -> None:
        """Count ``count`` more units as done."""
        self.done += count
        self.note = note or self.note

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self.initial) / max(time.monotonic() - self.started, 1e-9)

    def line(self) -> str:
        """Describe the state in one line."""
        left = (self.total - self.done) / self.rate if self.rate else float("nan")
        share = 100 * self.done / max(self.total, 1)
        parts = [f"{self.description} {share:3.0f} %", f"{self.done}/{self.total} {self.unit}", f"{self.rate:.1f}/s"]
        parts += [f"{clock(left)} left"] if left == left else []
        return ", ".join(parts + ([self.note] if self.note else []))


@contextmanager
def progress(
    description: str, total: int, *, done: int = 0, unit: str = "images", quiet: bool = False
) -> Iterator[Progress]:
    """Show progress while the block runs. ``quiet`` (and every rank but the first) shows nothing."""
    state = Progress(description, total, done, unit)
    if quiet or not distributed.is_main():
        yield state
    elif sys.stderr.isatty():
        yield from _bar(state)
    else:
        yield from _lines(state)


def clock(seconds: float) -> str:
    """Write a duration as 5 s, 3:20 or 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _bar(state: Progress) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[text]}"))
    with Bar(*columns, console=Console(stderr=True), expand=True) as bar:
        task = bar.add_task(state.description, total=state.total, completed=state.done, text="")
        plain = state.advance

        def advance(count: int, note: str = "") -> None:
            plain(count, note)
            bar.update(task, completed=state.done, text=state.line().removeprefix(state.description).strip())

        state.advance = advance  # type: ignore[method-assign]
        yield state


def _lines(state: Progress) -> Iterator[Progress]:
    plain, last = state.advance, time.monotonic()

    def advance(count: int, note: str = "") -> None:
        nonlocal last
        plain(count, note)
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            log.info(state.line())

    state.advance = advance  # type: ignore[method-assign]
    yield state
