"""Compare with recorded tensors of the reference and write the table of docs/parity.md.

.venv/bin/python scripts/parity_page.py --golden tests/parity/golden
"""

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "parity"))

from golden_file import Golden, read, relative_errors  # noqa: E402
from kinds import kind_of, run_of  # noqa: E402

from calotype.utils.files import atomic_write  # noqa: E402

START, END = "<!-- table: scripts/parity_page.py writes it -->\n", "<!-- end of table -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, default=ROOT / "tests" / "parity" / "golden")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "parity.md")
    arguments = parser.parse_args()
    stems = sorted({path.with_suffix("") for path in arguments.golden.glob("*.safetensors")})
    if not stems:
        parser.error(f"{arguments.golden} holds no golden files")
    found: dict[str, list[tuple[float, float, str]]] = {}
    for stem in stems:
        golden = read(stem)
        found.setdefault(kind_of(golden.name), []).append(worst(golden))
        print(f"{golden.name}: {found[kind_of(golden.name)][-1][0]:.1e}")
    before, _, rest = arguments.page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    with atomic_write(arguments.page) as temporary:
        temporary.write_text(f"{before}{START}{table(found)}{END}{after}", encoding="utf-8")
    print(arguments.page)


def worst(golden: Golden) -> tuple[float, float, str]:
    """Return the output nearest to its tolerance: its relative error, what is allowed, its name."""
    compared = relative_errors(golden, run_of(golden.name)(golden))
    if not compared:
        return 0.0, 0.0, "integers only"
    name, (error, allowed) = max(compared.items(), key=lambda item: item[1][0] / item[1][1] if item[1][1] else 0.0)
    return error, allowed, name


def table(found: dict[str, list[tuple[float, float, str]]]) -> str:
    rows = []
    for kind, results in sorted(found.items()):
        relative, allowed, name = max(results, key=lambda result: result[0] / result[1] if result[1] else 0)
        number = "exact" if not relative else f"{relative:.1e}"
        rows.append(f"| `{kind}` | {len(results)} | {number} | {f'{allowed:.0e}' if allowed else 'exact'} | {name} |")
    files = sum(len(results) for results in found.values())
    return f"""{files} files of {len(found)} kinds, torch {torch.__version__} on the CPU. The error is the largest
difference of an output divided by the largest magnitude of that output (of its group, where the tolerance says so);
shown is the output of a kind that comes nearest to its tolerance. Integers are equal.

| kind | files | worst relative error | allowed | output |
|---|---|---|---|---|
{chr(10).join(rows)}
"""


if __name__ == "__main__":
    main()
