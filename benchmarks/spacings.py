"""The spacings of steps on a trained network that predicts eps: what an exact denoiser cannot tell.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/spacings.py --runs runs/spacings

Trains one rung of recipe_ladder.py on the paper's table for longer (some 8 CPU minutes; a finished run is kept), draws
the same images with every spacing and number of steps, and compares them with those of 100 steps, where spacings agree.
Writes docs/results/spacings.json and .md.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from recipe_ladder_bench import DRAWN, Bench
from recipe_ladder_rungs import folder_of
from torch import Tensor

from calotype.artifact import latest_checkpoint, read_artifact, versions
from calotype.diffusion import CFG, DDIM, DPMSolver, Grid, Solver, solve
from calotype.diffusion.grid import Spacing
from calotype.evaluation import kernel_distance
from calotype.pipeline import load_latent_diffusion
from calotype.utils.files import write_json

RUNG, SAMPLES, MANY, GUIDANCE = "batch 32", 64_000, 60, CFG(3.0)
STEPS = (5, 8, 10, 15, 20)
SERIES: dict[str, tuple[Solver, tuple[Spacing, ...]]] = {
    "DPM-Solver++ 2M": (DPMSolver(), ("trailing", "log_snr", "karras", "quadratic")),
    "DDIM": (DDIM(), ("trailing", "log_snr")),
}
PAGE = """# Spacings on a trained network

Written by `benchmarks/spacings.py`: the rung `{rung}` of the ladder, which predicts eps on a table, after {samples:,}
samples of the embedded faces. {drawn} images with guidance 3. First the error: the median over images of the root mean
square difference of latents from those of {many} steps of DPM-Solver++ with `log_snr` (those with `trailing` differ by
{agree:.3f}). Then KID-EffLite0 against the training images, for those of {many} steps {kid:.2f}, with a standard error
of about {error:.2f}.

"""


class Faces:
    def __init__(self, runs: Path) -> None:
        self.bench = Bench(runs)
        print(self.bench.run(RUNG, 0, SAMPLES), flush=True)
        run = folder_of(runs, RUNG) / "0" / "run"
        self.model = load_latent_diffusion(read_artifact(latest_checkpoint(run)))
        self.noise = self.model.noise(seeds=range(DRAWN))

    @torch.no_grad()
    def draw(self, grid: Grid, solver: Solver) -> Tensor:
        denoise = self.model.denoise(DRAWN, GUIDANCE, caption=self.bench.captions)
        with self.bench.session.autocast():
            *_, last = solve(denoise, self.noise, grid, solver)
        return last.x

    def kid(self, latents: Tensor) -> tuple[float, float]:
        distance = kernel_distance(self.bench.features(self.model.decode(latents)), self.bench.reference)
        return round(distance.value, 3), round(distance.standard_error, 3)


def difference(one: Tensor, other: Tensor) -> float:
    return round((one - other).square().mean((1, 2, 3)).sqrt().median().item(), 4)


def measure(faces: Faces) -> dict[str, Any]:
    grid = faces.model.schedule.grid
    many, trailing = (faces.draw(grid(MANY, each), DPMSolver()) for each in ("log_snr", "trailing"))
    found: dict[str, Any] = {"agree": difference(trailing, many), "kid of many": faces.kid(many), "series": {}}
    for name, (solver, spacings) in SERIES.items():
        for spacing in spacings:
            row = found["series"][f"{name}, {spacing}"] = {}
            for steps in STEPS:
                latents = faces.draw(grid(steps, spacing), solver)
                row[str(steps)] = {"error": difference(latents, many), "kid": faces.kid(latents)[0]}
            print(name, spacing, row, flush=True)
    return found


def page(found: dict[str, Any]) -> str:
    kid, error = found["kid of many"]
    told = {"samples": SAMPLES, "rung": RUNG, "drawn": DRAWN, "many": MANY, "agree": found["agree"]}
    lines = [PAGE.format(**told, kid=kid, error=error)]
    lines += [f"| | {' | '.join(map(str, STEPS))} |", f"|---|{'---|' * len(STEPS)}"]
    for name, row in found["series"].items():
        cells = (f"{each['error']:.3f}, {each['kid']:.2f}" for each in row.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/spacings"))
    parser.add_argument("--results", type=Path, default=Path("docs/results/spacings"))
    arguments = parser.parse_args()
    found = measure(Faces(arguments.runs))
    write_json(arguments.results.with_suffix(".json"), {"spacings": found, **versions()})
    arguments.results.with_suffix(".md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
