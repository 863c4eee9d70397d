"""Error against evaluations of every solver and of diffusers' schedulers, where the exact answer is known.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/solver_error.py

The network is the exact denoiser of a Gaussian or of a mixture of six, in 8 dimensions. Writes
docs/results/solver_error.json, docs/results/solver_error.png and docs/results/solvers.md, which states the protocol.
Of its own files, solver_error_oracle.py has the data and the exact path, solver_error_peers.py the schedulers of
diffusers, solver_error_pairs.py what is compared, solver_error_moments.py the stochastic ones, solver_error_cause.py
why some differ and solver_error_best.py each library with its best spacing.
"""

import argparse
import json
import platform
import warnings
from pathlib import Path
from typing import Any

import diffusers
from solver_error_best import OURS, THEIRS, measure_best, measure_every
from solver_error_cause import measure_cause
from solver_error_moments import measure_moments
from solver_error_oracle import Exact, Mixture, data, ours, steps_for
from solver_error_page import draw, page
from solver_error_pairs import OWN, PAIRS
from solver_error_peers import FLOW, LEVELS, TABLE

from calotype.artifact import versions
from calotype.utils.files import read_json

EVALUATIONS = (5, 8, 10, 15, 20, 25, 40, 80, 160, 320)
PARTS = ("gaussian", "mixture", "stochastic", "cause", "best")
Results = dict[str, dict[str, dict[int, float]]]


def measure(target: Mixture) -> Results:
    """family -> series ("NAME | ours", "NAME | diffusers", "NAME | ours, own grid") -> evaluations -> error."""
    starts = {schedule: schedule.grid(1) for schedule in (TABLE, FLOW, LEVELS)}
    exact = {s: Exact(target, grid.alpha[0].item(), grid.sigma[0].item()) for s, grid in starts.items()}
    found: Results = {}
    for family, pairs in PAIRS.items():
        series = found.setdefault(family, {})
        for name, (solver, theirs) in pairs.items():
            for limit in EVALUATIONS:
                scheduler, path = theirs.prepared(limit), exact[theirs.schedule]
                grid = theirs.nodes(scheduler)
                series.setdefault(f"{name} | diffusers", {})[limit] = theirs.error(target, path, scheduler)
                mine = ours(target, theirs.schedule, path, solver, grid, theirs.shown(scheduler, grid))
                series.setdefault(f"{name} | ours, same nodes", {})[limit] = mine
        for name, (solver, schedule, spacing) in OWN.get(family, {}).items():
            for limit in EVALUATIONS:
                grid = schedule.grid(steps_for(solver.evaluations, limit), spacing)
                mine = ours(target, schedule, exact[schedule], solver, grid)
                series.setdefault(f"{name} | ours", {})[limit] = mine
    return found


def best(target: Mixture) -> dict[str, Any]:
    offered = {"theirs": ", ".join(f"`{name}`" for name in THEIRS), "ours": ", ".join(f"`{name}`" for name in OURS)}
    counts = range(EVALUATIONS[0], 101)
    every = {"range": {"first": counts[0], "last": counts[-1]}, "methods": measure_every(target, counts)}
    return {"offered": offered, "methods": measure_best(target, EVALUATIONS), "every": every}


def measured(part: str) -> dict[str, Any]:
    match part:
        case "stochastic":
            return {part: measure_moments(data()["gaussian"], EVALUATIONS)}
        case "cause":
            return measure_cause(EVALUATIONS)
        case "best":
            return best(data()["mixture"])
    return measure(data()[part])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS, help="measure these anew, keep the others")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    path = arguments.out / "solver_error.json"
    for part in arguments.only:
        kept = read_json(path)["error"] if path.exists() else {}
        about = {"versions": {**versions(), "diffusers": diffusers.__version__}, "cpu": platform.machine()}
        told = {"protocol": "docs/results/solvers.md", **about, "error": kept | {part: measured(part)}}
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    found = read_json(path)["error"]
    if found.keys() < set(PARTS):
        return
    (arguments.out / "solvers.md").write_text(page(found, diffusers.__version__), encoding="utf-8")
    draw(found, arguments.out / "solver_error.png")


if __name__ == "__main__":
    main()
