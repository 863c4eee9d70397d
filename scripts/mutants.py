"""Break the code on purpose, one mistake at a time, and see that a test notices: ``make mutants``.

scripts/mutants.toml names the mistakes and the tests that are to catch them. For each, a copy of the package with that
one text replaced is put before the real one, and the tests run: without the shape checks, which would find some by
chance. A mistake is caught if a test fails. A package that cannot be imported, or a name that is not there, proves
nothing.

.venv/bin/python scripts/mutants.py --only ddim-eta-ignored
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "src" / "calotype"
TABLE = ROOT / "scripts" / "mutants.toml"
HEAVY = [
    *("torch", "torch.distributed", "sympy", "scipy.stats", "skimage", "matplotlib"),
    *("hypothesis", "pytest", "pydantic", "einops", "rich.progress", "safetensors.torch", "PIL.Image"),
]
NO_PROOF = {
    *("ImportError", "ModuleNotFoundError", "NameError", "UnboundLocalError", "SyntaxError", "IndentationError"),
    "TimeoutExpired",
}
Failure = tuple[str, str, str]
"""The test, the phase it failed in ("collect", "setup", "call") and the type of the exception."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One mistake: ``old`` becomes ``new`` in ``file``; ``proves`` is the property of docs/proofs.md it violates."""

    id: str
    proves: str
    wrong: str
    file: str
    old: str
    new: str
    tests: list[str]

    def of(self, text: str) -> str:
        """Return the file's text with the mistake."""
        if text.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.id}: {self.old!r} is {text.count(self.old)} times in {self.file}, not once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Verdict:
    caught: bool
    told: str
    seconds: float = 0.0


def load(table: Path = TABLE) -> list[Mutant]:
    return [Mutant(**row) for row in tomllib.loads(table.read_text(encoding="utf-8"))["mutant"]]


def judge(code: int, failures: Sequence[Failure]) -> tuple[bool, str]:
    """Return whether a run of the tests caught a mistake, and what is to be said of it."""
    if code == 0:
        return False, "SURVIVED: every test passes"
    if not failures:
        return False, f"proves nothing: pytest ended with {code}"
    test, phase, error = failures[0]
    said = f"{test.rpartition('::')[2]} ({error})"
    if code != 1 or phase == "collect" or error in NO_PROOF:
        return False, f"proves nothing: {said}"
    return True, said


def run_tests(packages: str, tests: list[str], result: Connection) -> None:
    """In a process of its own: run ``tests`` on the package in the folder ``packages`` and tell what failed."""
    import hypothesis
    import pytest

    failures: list[Failure] = []

    class Watch:
        def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
            failures.append((node.nodeid, report.when, call.excinfo.typename))

    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    os.chdir(ROOT)
    sys.path.insert(0, packages)
    hypothesis.settings.register_profile("mutants", phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate))
    hypothesis.settings.load_profile("mutants")
    code = pytest.main(["-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", *tests], plugins=[Watch()])
    assert sys.modules["calotype"].__file__.startswith(packages), "the tests saw another package"
    result.send((int(code), failures))


def examine(packages: Path, tests: list[str], timeout: float | None) -> Verdict:
    """Run ``tests`` on the package in ``packages``; ``timeout`` is in seconds."""
    start, context = time.monotonic(), multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run_tests, args=(str(packages), tests, theirs), daemon=False)
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout):
            return Verdict(False, f"proves nothing: not done after {timeout:.0f} s")
        caught, told = judge(*ours.recv())
    except EOFError:
        caught, told = False, "proves nothing: the process died"
    finally:
        process.terminate()
        process.join()
    return Verdict(caught, told, time.monotonic() - start)


def try_out(mutant: Mutant, clean: Path, timeout: float) -> Verdict:
    with TemporaryDirectory(dir=clean.parent) as folder:
        packages = Path(folder) / "src"
        shutil.copytree(clean, packages, symlinks=True)
        file = packages / "calotype" / mutant.file
        file.write_text(mutant.of(file.read_text(encoding="utf-8")), encoding="utf-8")
        return examine(packages, mutant.tests, timeout)


@contextmanager
def clean_copy() -> Iterator[Path]:
    """A folder with a copy of the package, whose data are links."""

    def copy(source: str, target: str) -> None:
        shutil.copy2(source, target) if source.endswith(".py") else os.symlink(source, target)

    with TemporaryDirectory(prefix="calotype-mutants-") as folder:
        packages = Path(folder) / "src"
        shutil.copytree(
            SOURCES, packages / "calotype", copy_function=copy, ignore=shutil.ignore_patterns("__pycache__")
        )
        yield packages


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="ID", help="these mutants alone")
    parser.add_argument("--jobs", type=int, default=2, help="how many to run side by side (default: 2)")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="for each one (default: 300)")
    arguments = parser.parse_args()
    mutants = load()
    if unknown := set(arguments.only or ()) - {mutant.id for mutant in mutants}:
        parser.error(f"no mutant is called {', '.join(sorted(unknown))}; {TABLE.name} has their names")
    mutants = [mutant for mutant in mutants if arguments.only is None or mutant.id in arguments.only]
    width = max(len(mutant.id) for mutant in mutants)

    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.get_context("forkserver").set_forkserver_preload(HEAVY)
    start = time.monotonic()
    with clean_copy() as clean, ThreadPoolExecutor(arguments.jobs) as pool:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(clean.parent / "hypothesis")
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        print(f"{len(tests)} tests on the code as it is ...", flush=True)
        unharmed = examine(clean, tests, None)
        if not unharmed.told.startswith("SURVIVED"):
            print(f"they must pass first: {unharmed.told}")
            return 1
        print(f"they pass ({clock(unharmed.seconds)}); {len(mutants)} mutants, {arguments.jobs} at a time:", flush=True)
        began, caught = time.monotonic(), 0
        running = {pool.submit(try_out, mutant, clean, arguments.timeout): mutant for mutant in mutants}
        try:
            for done, future in enumerate(as_completed(running), 1):
                mutant, verdict = running[future], future.result()
                caught += verdict.caught
                left = clock((time.monotonic() - began) / done * (len(mutants) - done))
                mark = "caught by" if verdict.caught else "NOT CAUGHT:"
                print(
                    f"{done:3}/{len(mutants)}  {left} left  {mutant.proves:3}  {mutant.id:{width}}  {mark} "
                    f"{verdict.told}  {verdict.seconds:.0f} s",
                    flush=True,
                )
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            print(f"stopped; {caught} of {len(mutants)} were caught until then")
            return 130
    print(f"{caught} of {len(mutants)} mutants caught in {clock(time.monotonic() - start)}")
    return 0 if caught == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
