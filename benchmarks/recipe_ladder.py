"""From the paper's recipe to `modern`, one change at a time, on the embedded faces: what each is worth in equal time.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/recipe_ladder.py --runs runs/ladder --workers 2

Every rung is its parent with one change. All train the same small network on the latents of the embedded autoencoder
for the same CPU seconds of one thread: steps of all rungs are timed first, interleaved, by as many processes as will
train, and each rung then gets the samples that fit. A seed is a data order, initial weights and every draw; rungs are
compared seed by seed. Scored is the KID-EffLite0 between samples (averaged weights, DPM-Solver++(2M), guidance 3,
captions of training images, fixed seeds) and the training images: lower is better. Stop it and run it again, also
several at a time: finished runs are kept. Writes docs/results/recipe_ladder.json, .md and .png with the rungs of which
all runs are there; the two ends come first, then seed after seed. What all runs share, latents and features, is made
once under --runs (5 MB; --prepare makes no more); how a run is made is in recipe_ladder_bench.py, the rungs are in
recipe_ladder_rungs.py.
"""

import argparse
import functools
import itertools
import math
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import torch
from recipe_ladder_bench import PROTOCOL, Bench, locked, results, samples_in
from recipe_ladder_page import write
from recipe_ladder_rungs import RUNGS, TOP

from calotype.utils.files import read_json, write_json
from calotype.utils.progress import clock

ENDS, TURNS, LEAST_TURNS = ("ldm2022", TOP), 12, 3

the_bench = functools.cache(Bench)


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes; stopped, those at work stop after what is saved, and nothing else is begun."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as processes:
        try:
            yield processes
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            raise


def timed(runs: Path, names: list[str], turns: int) -> dict[str, list[float]]:
    return the_bench(runs).times(names, turns)


def trained(runs: Path, name: str, seed: int, samples: int) -> str:
    return the_bench(runs).run(name, seed, samples)


def samples_of(runs: Path, names: list[str], seconds: float, workers: int) -> dict[str, int]:
    """Return how many training samples of each rung take ``seconds`` of one thread; what was timed once is kept."""
    path, turns = runs / f"samples-{seconds:g}.json", max(LEAST_TURNS, math.ceil(TURNS / workers))
    with locked(runs / "timing.lock"):
        found: dict[str, int] = read_json(path) if path.exists() else {}
        if missing := [name for name in names if name not in found]:
            with pool(workers) as processes:
                each = [processes.submit(timed, runs, missing, turns) for _ in range(workers)]
                times = [future.result() for future in each]
            found |= samples_in(seconds, {name: [value for one in times for value in one[name]] for name in missing})
            write_json(path, found)
    return found


def train_all(runs: Path, jobs: list[tuple[str, int]], samples: dict[str, int], workers: int) -> None:
    """Do every job, ``workers`` at a time, and say how it went; one that fails stops no other."""
    begun = time.monotonic()
    with pool(workers) as processes:
        running = {processes.submit(trained, runs, name, seed, samples[name]): (name, seed) for name, seed in jobs}
        for done, future in enumerate(as_completed(running), 1):
            name, seed = running[future]
            error, left = future.exception(), clock((time.monotonic() - begun) / done * (len(jobs) - done))
            told = f"FAILED: {error}" if error else future.result()
            print(f"{done:3}/{len(jobs)}  {left} left  seed {seed}  {name:26} {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/ladder"))
    parser.add_argument("--seconds", type=float, default=30.0, help="CPU seconds of one thread for each run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="processes that train side by side, one thread each")
    parser.add_argument("--only", nargs="+", metavar="RUNG", choices=[*RUNGS], help="these rungs alone")
    parser.add_argument("--results", type=Path, default=Path("docs/results/recipe_ladder"))
    parser.add_argument("--prepare", action="store_true", help="make what all runs share, and no more")
    parser.add_argument("--report-only", action="store_true", help="write the results of the runs that are there")
    arguments = parser.parse_args()
    runs, seeds = arguments.runs, range(arguments.seeds)
    if not arguments.report_only:
        Bench(runs)
        if arguments.prepare:
            return
        names = arguments.only or [*RUNGS]
        ends = [name for name in ENDS if name in names]
        jobs = [(name, seed) for seed in seeds for name in ends]
        jobs += [(name, seed) for seed, name in itertools.product(seeds, names) if name not in ends]
        train_all(runs, jobs, samples_of(runs, names, arguments.seconds, arguments.workers), arguments.workers)
    found = results(runs, seeds)
    if set(ENDS) <= found.keys():
        write(found, arguments.seconds, PROTOCOL, runs, arguments.results)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
