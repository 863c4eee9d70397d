"""SIGINT and SIGTERM, made polite: the first asks the loop to save and stop, the second ends the process."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """Training stopped because it was asked to; everything is saved. ``exit_code`` is 130 or 143 as shells expect."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StopRequest:
    """Whether, and by which signal, the run was asked to stop (on this process)."""

    received: int | None = None

    def __bool__(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        """Return 128 plus the signal's number: SIGTERM's where another process of the run was asked."""
        return 128 + (self.received or signal.SIGTERM)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Collect the first SIGINT or SIGTERM in the value of the block; restore the former handlers afterwards.

    Outside the main thread signals cannot be caught; the value then stays False.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        request.received = number
        for each in former:
            signal.signal(each, signal.SIG_DFL)

    for number in former:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
