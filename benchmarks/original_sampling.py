"""Sample from full-size checkpoints of the original through the command line, on this machine.

    .venv/bin/python benchmarks/original_sampling.py cin256-v2 celeba256 --out docs/results/original_sampling.json

The weights are nobody's: normal numbers, so pictures mean nothing, but files, shapes, memory and time are those of the
released models. Each checkpoint is written as the original's trainer did (some gigabytes, removed again), then drawn
from by `calotype sample --original` in a process of its own.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "interop"))

from synthetic import copies, exact_tensors, write_checkpoint  # noqa: E402

from calotype.interop.original.keys import original_state  # noqa: E402
from calotype.presets.released import RELEASED, ReleasedModel  # noqa: E402

GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["cin256-v2"], metavar="NAME", help="released models")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "original_sampling.json")
    arguments = parser.parse_args()
    rows = [measure(RELEASED[name], arguments.steps, arguments.images) for name in arguments.names]
    machine = {"cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}
    arguments.out.write_text(json.dumps({"machine": machine, "models": rows}, indent=2) + "\n", encoding="utf-8")
    print(arguments.out)


def measure(row: ReleasedModel, steps: int, images: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model.ckpt"
        write(checkpoint, row)
        size = checkpoint.stat().st_size / GIB
        seconds = {count: sample(checkpoint, row, count, images) for count in (1, 1 + steps)}
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / GIB
    result = {
        "name": row.name,
        "checkpoint_gib": round(size, 2),
        "peak_memory_gib": round(peak, 2),
        "seconds_with_one_step": round(seconds[1], 1),
        "seconds_per_step": round((seconds[1 + steps] - seconds[1]) / steps, 2),
        "images": images,
    }
    print(json.dumps(result))
    return result


def write(path: Path, row: ReleasedModel) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, tensor in original_state(row.original).items():
        drawn = torch.randn(tensor.shape, generator=generator) * 0.02 if tensor.is_floating_point() else torch.ones(())
        state[key] = drawn.to(tensor.dtype)
    write_checkpoint(path, state | exact_tensors(row.original) | copies(state))


def sample(checkpoint: Path, row: ReleasedModel, steps: int, images: int) -> float:
    condition = {"class": ["--class", "207"], "caption": ["--caption", "an oak in fog"]}.get(row.takes, [])
    command = ["calotype.cli", "sample", "--original", str(checkpoint), "--config", row.name, *condition]
    command += ["--seeds", f"0-{images - 1}", "--steps", str(steps), "--grid", str(checkpoint.parent / "grid.png")]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
