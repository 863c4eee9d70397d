"""How a verb is run: arguments from its signature, mistakes in one line, logs to the terminal."""

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from calotype.utils.errors import UserError


def execute(verb: str, command: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Parse ``arguments`` for ``command`` by its signature, run it, and return the exit code.

    0: done. 2: a mistake of the user's, told in one line. 130 or 143: stopped by a signal, saved. 1: training failed.
    """
    import tyro

    main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(
        level=logging.INFO if main_process else logging.WARNING, format="%(message)s", stream=sys.stderr
    )
    for chatty in ("matplotlib", "PIL", "tensorboard"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            call = tyro.cli(
                _deferred(command), prog=f"calotype {verb}", args=list(arguments), config=(tyro.conf.OmitArgPrefixes,)
            )
    except SystemExit as stop:
        if stop.code:
            print(f"calotype {verb}: {_one_line(complaint.getvalue())} (see calotype {verb} --help)", file=sys.stderr)
        return int(stop.code or 0)
    return _call(verb, call)


def _call(verb: str, call: Callable[[], None]) -> int:
    try:
        call()
    except UserError as error:
        print(f"calotype {verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"calotype {verb}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"calotype {verb}: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except Exception as error:
        from calotype.training.interrupt import Interrupted
        from calotype.training.trainer import TrainingError

        if isinstance(error, Interrupted):
            print(f"calotype {verb}: {error}", file=sys.stderr)
            return error.exit_code
        if isinstance(error, TrainingError):
            print(f"calotype {verb}: {error}", file=sys.stderr)
            return 1
        raise
    return 0


def _deferred(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """Return a function with the same signature that parses now and runs later, when errors are no longer collected."""
    import functools

    @functools.wraps(command)
    def parse(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return lambda: command(*args, **kwargs)

    parse.__annotations__ = {**command.__annotations__, "return": Any}
    return parse


def _one_line(text: str) -> str:
    """Flatten the parser's box to its message and its suggestions, without frames and help texts (indented deeper)."""
    kept: list[str] = []
    for line in text.splitlines()[1:]:
        inside = line[1:-1].rstrip(" ─-")
        if inside.strip().startswith(("Got errors", "Argument helptext", "For full helptext")):
            break
        if not inside.startswith(" " * 9):
            kept.append(inside.strip())
    message = " ".join(" ".join(kept).split()) or "bad arguments"
    return re.sub(r"no type matching (?:{None}\|)?(\S+) could be instantiated from \[(.*?)\]", r"\2 is not \1", message)
