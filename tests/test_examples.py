"""Every example runs at debug size and writes the pictures that it names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from calotype.utils.images import read_image

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
PROCESSES = 3
RUNS_EACH = """
import runpy, sys, torch
from pathlib import Path

torch.set_num_threads(1)
out, examples = Path(sys.argv[1]), sys.argv[2:]
for example in examples:
    folder = out / Path(example).stem
    folder.mkdir()
    (folder / "latents").symlink_to(out)  # a store is named by what it depends on: examples on the same images share it
    sys.argv = [example, "--debug", "--out", str(folder)]
    print(f"running {example}", flush=True)
    runpy.run_path(example, run_name="__main__")
"""


@pytest.mark.parametrize("first", range(PROCESSES))
def test_they_run_and_write_what_they_say(first: int, tmp_path: Path) -> None:
    """Several in one process, outside of the checks of shapes, which would take longer than the examples."""
    examples = EXAMPLES[first::PROCESSES]
    command = [sys.executable, "-c", RUNS_EACH, str(tmp_path), *map(str, examples)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert found.returncode == 0, found.stdout + found.stderr
    for example in examples:
        pictures = set(re.findall(r"OUT/(\w+\.png)", example.read_text()))
        assert pictures
        for name in pictures:
            assert min(read_image(tmp_path / example.stem / name).shape[:2]) >= 32
