"""The presets `modern` and `ldm2022` against each other in equal CPU time, seed by seed.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/presets_compared.py --runs runs/presets_compared

The bench, its data and its yardstick are those of recipe_ladder.py; here both methods are exactly the presets', at the
ladder's smaller width. Stop it and run it again, also several at a time: finished runs are kept. Writes
docs/results/presets_compared.json once all are there.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

from recipe_ladder_bench import Bench, locked, samples_in
from recipe_ladder_page import interval
from recipe_ladder_rungs import RUNGS, SHAPE, Rung, folder_of

from calotype.artifact import versions
from calotype.presets import DIFFUSION
from calotype.presets.diffusion import Method
from calotype.utils.files import read_json, write_json

NAMES = ("modern", "ldm2022")


def method_on_cpu(name: str) -> Method:
    """Return a preset's method with the batch that it has on a CPU."""
    preset = DIFFUSION[name]
    return replace(preset.method, batch_size=preset.batch_size_on("cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/presets_compared"))
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of one thread for each run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("docs/results/presets_compared.json"))
    arguments = parser.parse_args()
    RUNGS.clear()
    RUNGS.update({name: Rung(name, "", lambda _, name=name: method_on_cpu(name)) for name in NAMES})
    bench, counted = Bench(arguments.runs), arguments.runs / f"samples-{arguments.seconds:g}.json"
    with locked(arguments.runs / "timing.lock"):
        if not counted.exists():
            write_json(counted, samples_in(arguments.seconds, bench.times([*NAMES], 12)))
    samples = read_json(counted)
    for seed in range(arguments.seeds):
        for name in NAMES:
            print(f"seed {seed}  {name:8} {bench.run(name, seed, samples[name])}", flush=True)
    done = {
        name: [folder_of(arguments.runs, name) / str(seed) / "result.json" for seed in range(arguments.seeds)]
        for name in NAMES
    }
    if not all(path.exists() for paths in done.values() for path in paths):
        return
    kid = {name: [read_json(path)["kid"] for path in paths] for name, paths in done.items()}
    mean, half = interval([ours - theirs for ours, theirs in zip(*kid.values(), strict=True)])
    found = {
        "what": "KID-EffLite0 of samples against the training images, lower is better; paired over seeds",
        "data": "emoji:faces, latents of the embedded autoencoder",
        "budget": f"{arguments.seconds:g} CPU seconds of one thread per run, as timed before",
        "width": SHAPE.channels,
        "samples": samples,
        "kid": {name: [round(value, 3) for value in values] for name, values in kid.items()},
        "mean": {name: round(statistics.mean(values), 3) for name, values in kid.items()},
        "modern - ldm2022": {"mean": round(mean, 3), "95 % interval": [round(mean - half, 3), round(mean + half, 3)]},
        **versions(),
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.results, found)
    print(f"wrote {arguments.results}: modern - ldm2022 is {mean:.3f} +- {half:.3f}")


if __name__ == "__main__":
    main()
