"""How a verb ends: its exit code, and one line for a mistake."""

import errno
from collections.abc import Callable

import pytest

from calotype.cli.command import _one_line, execute
from calotype.training.interrupt import Interrupted
from calotype.training.trainer import TrainingError
from calotype.utils.errors import UserError


def raising(error: BaseException) -> Callable[..., None]:
    def command(number: int = 0) -> None:
        raise error

    return command


def options(*, size: int | None = None, minutes: float = 1.0, out: str) -> None:
    """Options of the common kinds."""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("the folder is empty"), 2, "calotype verb: the folder is empty"),
        (OSError(errno.ENOSPC, "No space left on device", "x.log"), 2, "calotype verb: x.log: No space left on device"),
        (KeyboardInterrupt(), 130, "calotype verb: stopped"),
        (Interrupted("stopped at 8 of 16", 143), 143, "calotype verb: stopped at 8 of 16"),
        (TrainingError("the loss is not finite"), 1, "calotype verb: the loss is not finite"),
    ],
)
def test_an_expected_end_is_one_line(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute("verb", raising(error), []) == code
    shown = capsys.readouterr()
    assert shown.err == f"{message}\n"
    assert not shown.out


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        execute("verb", raising(ZeroDivisionError()), [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing from calotype verb: --out STR"),
        (["--out"], "Missing value for argument '--out'. Expected 1 values."),
        (["--out", "x", "--size", "1.5"], "Error parsing --size: '1.5' is not INT."),
        (["--out", "x", "--minutes", "soon"], "Error parsing --minutes: could not convert string to float: 'soon'"),
        (["--out", "x", "--minuts", "3"], "Unrecognized options: --minuts, 3 Perhaps you meant: --minutes FLOAT"),
        (["--out", "x", "y"], "Unrecognized options: y"),
    ],
)
def test_what_cannot_be_parsed_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute("verb", options, arguments) == 2
    assert capsys.readouterr().err == f"calotype verb: {message} (see calotype verb --help)\n"


def test_the_command_gets_its_values() -> None:
    seen: list[object] = []

    def command(*, size: int | None = None, minutes: float = 1.0) -> None:
        seen.append((size, minutes))

    assert execute("verb", command, ["--size", "32"]) == 0
    assert seen == [(32, 1.0)]


@pytest.mark.parametrize("frame", ["╭╮╰╯│─", "++++|-"])
def test_frames_and_help_texts_are_left_out(frame: str) -> None:
    left, right, bottom_left, bottom_right, side, rule = frame
    rows = [
        " Missing from it:",
        "     --out PATH",
        "         Where it goes",
        f" {rule * 26} ",
        " For full helptext, run:",
    ]
    box = [f"{left}{rule} Required {rule * 18}{right}", *(f"{side}{row:28}{side}" for row in rows)]
    assert _one_line("\n".join([*box, f"{bottom_left}{rule * 28}{bottom_right}", ""])) == "Missing from it: --out PATH"
