"""The table of mutants is true: `make mutants` runs it, which takes minutes; this does not."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from mutants import SOURCES, Mutant, judge, load  # noqa: E402

MUTANTS = load()
PROOFS = (ROOT / "docs" / "proofs.md").read_text(encoding="utf-8")
ROWS = {
    row[0]: row for line in PROOFS.splitlines() if line.startswith("| T") for row in [line.strip("| ").split(" | ")]
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.id for mutant in MUTANTS])
def test_a_mutant_changes_one_place_and_names_tests_that_exist(mutant: Mutant) -> None:
    before = (SOURCES / mutant.file).read_text(encoding="utf-8")
    after = mutant.of(before)
    assert after != before
    compile(after, mutant.file, "exec")
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"\ndef {name.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")


def test_names_are_unique_and_every_property_has_its_tests_and_a_mutant() -> None:
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)
    assert list(ROWS) == [f"T{number}" for number in range(1, 26)]
    for name, row in ROWS.items():
        assert "`test_" in row[2]
        assert re.findall(r"`([\w-]+)`", row[3]) == [mutant.id for mutant in MUTANTS if mutant.proves == name]
    assert f"{len(MUTANTS)} of {len(MUTANTS)} mutants caught" in PROOFS


def test_a_text_that_is_not_there_once_is_refused() -> None:
    mutant = Mutant(id="it", proves="T1", wrong="", file="a.py", old="x + 1", new="x - 1", tests=[])
    assert mutant.of("y = x + 1\n") == "y = x - 1\n"
    for text in ("y = x\n", "y = x + 1\nz = x + 1\n"):
        with pytest.raises(ValueError, match=r"times in a\.py, not once"):
            mutant.of(text)


@pytest.mark.parametrize(
    ("code", "failures", "caught", "told"),
    [
        (1, [("tests/test_a.py::test_b", "call", "AssertionError")], True, "test_b (AssertionError)"),
        (1, [("tests/test_a.py::test_b", "setup", "ValueError")], True, "test_b (ValueError)"),
        (1, [("tests/test_a.py::test_b", "call", "ImportError")], False, "proves nothing: test_b (ImportError)"),
        (1, [("tests/test_a.py::test_b", "call", "NameError")], False, "proves nothing: test_b (NameError)"),
        (2, [("tests/test_a.py", "collect", "CollectError")], False, "proves nothing: tests/test_a.py (CollectError)"),
        (4, [], False, "proves nothing: pytest ended with 4"),
        (0, [], False, "SURVIVED: every test passes"),
    ],
)
def test_only_a_test_that_fails_catches(
    code: int, failures: list[tuple[str, str, str]], caught: bool, told: str
) -> None:
    assert judge(code, failures) == (caught, told)
