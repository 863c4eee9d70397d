"""Starting up: help in no time and without torch, codes and streams of the top level."""

import json
import subprocess
import sys

import pytest

from calotype import cli
from calotype.cli import VERBS, main, run

LISTS_TORCH = """
import io, json, sys
from contextlib import redirect_stdout
import calotype
from calotype.cli import VERBS, run
loaded = {"import": "torch" in sys.modules}
with redirect_stdout(io.StringIO()):
    codes = {"--help": run(["--help"])}
    loaded["--help"] = any(name in sys.modules for name in ("torch", "numpy", "tyro", "pydantic"))
    for verb in VERBS:
        codes[verb] = run([*verb.split(), "--help"])
        loaded[verb] = "torch" in sys.modules
print(json.dumps([loaded, codes]))
"""


def test_import_and_every_help_do_without_torch() -> None:
    found = subprocess.run([sys.executable, "-c", LISTS_TORCH], capture_output=True, text=True, check=True, timeout=60)
    loaded, codes = json.loads(found.stdout)
    assert set(codes) == {"--help", *VERBS}
    assert not any(codes.values())
    assert not [name for name, is_loaded in loaded.items() if is_loaded]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_explains_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"usage: calotype {verb}")
    assert not shown.err


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_the_overview_lists_the_verbs(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([word]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown and summary in shown for verb, (_, summary) in VERBS.items())


def test_without_arguments_the_overview_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "usage: calotype VERB" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import calotype

    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == calotype.__version__


@pytest.mark.parametrize(
    ("verb", "near"), [("runn", "'run'"), ("data", "'data check'"), ("evalute", "'evaluate'"), ("xyz", None)]
)
def test_an_unknown_verb_names_the_nearest(verb: str, near: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"unknown verb {verb!r}" in line
    assert ("Did you mean" in line) == (near is not None)
    assert near is None or near in line


def test_main_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "run", lambda arguments: len(arguments))
    with pytest.raises(SystemExit) as stop:
        main(["a", "b", "c"])
    assert stop.value.code == 3
