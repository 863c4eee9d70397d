"""From the paper's recipe to `modern`, one change at a time, on the embedded faces: what each is worth in equal time.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/recipe_ladder.py --runs runs/ladder

Every rung is its parent with one change. All train the same small network on the latents of the embedded autoencoder
for the same CPU seconds of one thread: steps of all rungs are timed first, interleaved, and each rung then gets the
samples that fit. A seed is a data order, initial weights and every draw; rungs are compared seed by seed. Scored is the
KID-EffLite0 between samples (averaged weights, DPM-Solver++(2M), guidance 3, captions of training images, fixed seeds)
and the training images: lower is better. Stop it and run it again, also several at a time: finished runs are kept.
Writes docs/results/recipe_ladder.json, .md and .png with the rungs of which all runs are there.
"""

import argparse
import fcntl
import itertools
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from calotype.artifact import Artifact, read_artifact, versions
from calotype.chain.source import open_source
from calotype.chain.stages import latent_loader, loader
from calotype.data.latents import LatentLoader
from calotype.diffusion import (
    CFG,
    EDM,
    Flow,
    HuberLoss,
    ImportanceTimes,
    LogitNormalTimes,
    LogNormalTimes,
    MinSNRWeighting,
    ZeroTerminalSNR,
)
from calotype.evaluation import EfficientNetLite0Features, kernel_distance
from calotype.pipeline import load_latent_diffusion
from calotype.presets.diffusion import LDM2022, SMALL, DiffusionPreset, Method
from calotype.presets.embedded import embedded_model
from calotype.training.diffusion_recipe import DiffusionRecipe
from calotype.training.draws import Draws
from calotype.training.ema import PowerFunctionEMA
from calotype.training.session import start_session
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils.files import read_json, write_json
from calotype.utils.images import image_grid, save_png
from calotype.utils.tensors import load_tensors, save_tensors

SHAPE = replace(SMALL, channels=64, text_channels=64, text_layers=1)
DRAWN, STEPS, GUIDANCE, SHOWN = 128, 10, CFG(3.0), 12
TOP = "logit-normal times"


@dataclass(frozen=True)
class Rung:
    """A change, and what it is a change of."""

    name: str
    of: str
    change: Callable[[Method], Method]


def objective(**changes: Any) -> Callable[[Method], Method]:
    return lambda method: replace(method, objective=replace(method.objective, **changes))


def optimiser(**changes: Any) -> Callable[[Method], Method]:
    return lambda method: replace(method, optimiser=replace(method.optimiser, **changes))


def edm(method: Method) -> Method:
    return replace(objective(prediction="v", times=LogNormalTimes())(method), schedule=EDM())


STEADY = optimiser(betas=(0.9, 0.95), weight_decay=0.0, warmup_samples=1_600, decay_from=0.6, clip=1.0)
CLIMB = (
    Rung("learning rate 1.5e-3", "ldm2022", optimiser(learning_rate=1.5e-3)),
    Rung("warm-up, decay, clipping", "learning rate 1.5e-3", STEADY),
    Rung("power-function EMA", "warm-up, decay, clipping", lambda method: replace(method, ema=PowerFunctionEMA())),
    Rung("batch 32", "power-function EMA", lambda method: replace(method, batch_size=32)),
    Rung("v prediction", "batch 32", objective(prediction="v")),
    Rung("flow", "v prediction", lambda m: replace(objective(prediction="flow")(m), schedule=Flow())),
    Rung(TOP, "flow", objective(times=LogitNormalTimes())),
)
ALSO_TRIED = (
    Rung("velocity direction", TOP, objective(direction_weight=1.0)),
    Rung("min-SNR weighting", TOP, objective(weighting=MinSNRWeighting())),
    Rung("EDM, log-normal times", TOP, edm),
    Rung("Huber loss, c 0.1", TOP, objective(loss=HuberLoss(c=0.1))),
    Rung("learning rate 3e-3", TOP, optimiser(learning_rate=3e-3)),
    Rung("times by importance", "flow", objective(times=ImportanceTimes(bins=20, history=5))),
    Rung(
        "zero terminal SNR",
        "v prediction",
        lambda method: replace(method, schedule=ZeroTerminalSNR(of=method.schedule)),  # type: ignore[arg-type]
    ),
    Rung("offset noise 0.1", TOP, lambda method: replace(method, offset_noise=0.1)),
    Rung("input perturbation 0.1", TOP, lambda method: replace(method, input_perturbation=0.1)),
)
RUNGS = {rung.name: rung for rung in (Rung("ldm2022", "", lambda method: method), *CLIMB, *ALSO_TRIED)}


def method_of(name: str) -> Method:
    rung = RUNGS[name]
    return rung.change(method_of(rung.of) if rung.of else LDM2022)


class Bench:
    """The data, the yardstick and the trainer that all rungs share."""

    def __init__(self, runs: Path) -> None:
        torch.set_num_threads(1)
        self.runs, self.session = runs, start_session("cpu")
        self.artifact: Artifact = read_artifact(embedded_model(), kind="latent_diffusion")
        self.source = open_source("emoji:faces")
        self.latents: LatentLoader = latent_loader(self.artifact, self.source.train, runs / "latents", 0, self.session)
        self.features = EfficientNetLite0Features()
        chosen = torch.linspace(0, len(self.latents) - 1, DRAWN).long().tolist()
        self.captions = [self.latents.records[index].fields["caption"] for index in chosen]
        self.reference = self._reference(runs / "reference.safetensors")

    def recipe(self, name: str, seed: int) -> DiffusionRecipe:
        preset = DiffusionPreset(name=name, summary="", shape=SHAPE, method=method_of(name))
        train = LatentLoader(self.latents.moments, self.latents.records, seed)
        torch.manual_seed(seed)
        return _NoPreview(preset.recipe(4, self.source.train), self.artifact, train)

    def samples(self, seconds: float) -> dict[str, int]:
        """Return how many training samples of each rung take ``seconds`` of one thread; timed once, all in turn."""
        path = self.runs / f"samples-{seconds:g}.json"
        with (self.runs / "timing.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                write_json(path, self._timed(seconds))
        found: dict[str, int] = read_json(path)
        return found

    def _timed(self, seconds: float) -> dict[str, int]:
        recipes = {name: self.recipe(name, 0) for name in RUNGS}
        times: dict[str, list[float]] = {name: [] for name in RUNGS}
        for name, recipe in recipes.items():
            recipe.start(self.session, method_of(name).batch_size)
        for turn, (name, recipe) in itertools.product(range(14), recipes.items()):
            size, start = method_of(name).batch_size, time.process_time()
            recipe.step(recipe.train.batch(turn * size, size), Draws(0, turn * size, size, slice(None)))
            times[name].append(time.process_time() - start)
        each = {name: statistics.quantiles(times[name][2:], n=4)[0] for name in RUNGS}
        return {name: int(seconds / each[name]) * method_of(name).batch_size for name in RUNGS}

    def run(self, name: str, seed: int, samples: int) -> None:
        """Train, draw and measure, unless it is done or another process is at it."""
        folder = self.runs / name.replace(" ", "_").replace(",", "") / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if (folder / "result.json").exists():
                return
            method, start = method_of(name), time.process_time()
            settings = TrainerConfig(
                out=str(folder / "run"), samples=samples, batch_size=method.batch_size, seed=seed, device="cpu"
            )
            recipe = self.recipe(name, seed)
            checkpoint = Trainer(replace(settings, ema=method.ema, checkpoint_every=10**9)).fit(recipe, recipe.train)
            spent = time.process_time() - start
            model = load_latent_diffusion(read_artifact(checkpoint))
            with self.session.autocast():
                images = model.sample(
                    seeds=range(DRAWN), steps=STEPS, guidance=GUIDANCE, caption=self.captions, batch_size=64
                )
            save_png(folder / "samples.png", image_grid(images[:: DRAWN // SHOWN][:SHOWN], columns=SHOWN))
            distance = kernel_distance(self.features(images), self.reference)
            found = {"kid": distance.value, "standard_error": distance.standard_error}
            write_json(folder / "result.json", {**found, "samples": samples, "cpu_seconds": round(spent, 1)})
            print(f"seed {seed}  {name:26} KID-EffLite0 {distance.value:.3f}  {spent:.0f} s", flush=True)

    def results(self, seeds: range) -> dict[str, dict[int, dict[str, Any]]]:
        """Return what was found for the rungs of which every seed is done."""
        folders = {name: self.runs / name.replace(" ", "_").replace(",", "") for name in RUNGS}
        found = {
            name: {seed: read_json(path) for seed in seeds if (path := folder / str(seed) / "result.json").exists()}
            for name, folder in folders.items()
        }
        return {name: runs for name, runs in found.items() if len(runs) == len(seeds)}

    def _reference(self, path: Path) -> torch.Tensor:
        if not path.exists():
            images = loader(self.source.train, 64, 0)
            save_tensors(path, {"features": self.features.extract(batch.images for batch in images.all(64))})
        return load_tensors(path)["features"]


class _NoPreview(DiffusionRecipe):
    def preview(self, averaged: Any) -> None:  # noqa: ARG002 - its time would count
        return None


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % interval (t distribution)."""
    from scipy.stats import t

    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return statistics.mean(values), float(t.ppf(0.975, len(values) - 1) * spread) if len(values) > 1 else math.inf


def compared(found: dict[str, dict[int, dict[str, Any]]], one: str, other: str) -> dict[str, Any]:
    """Return the difference between two rungs over the seeds that both have; below 0, the first is better."""
    seeds = sorted(found[one].keys() & found[other].keys())
    mean, half = interval([found[one][seed]["kid"] - found[other][seed]["kid"] for seed in seeds])
    return {"of": other, "difference": round(mean, 4), "half_width": round(half, 4), "seeds": len(seeds)}


def summary(found: dict[str, dict[int, dict[str, Any]]], seconds: float) -> dict[str, Any]:
    rungs = {}
    for name, runs in found.items():
        rung = RUNGS[name]
        mean, half = interval([run["kid"] for run in runs.values()])
        rungs[name] = {
            "kid": round(mean, 4),
            "half_width": round(half, 4),
            "samples": next(iter(runs.values()))["samples"],
            "cpu_seconds": round(statistics.mean(run["cpu_seconds"] for run in runs.values()), 1),
            "compared": compared(found, name, rung.of) if rung.of else None,
            "runs": {str(seed): run for seed, run in runs.items()},
        }
    about = {
        "what": "KID-EffLite0 of samples against the training images; lower is better; 95 % intervals over seeds",
        "data": "emoji:faces, 386 training images, latents of the embedded autoencoder (16x16x4)",
        "network": f"that of `modern` with {SHAPE.channels} channels and 1 layer of text, {SHAPE.text_channels} wide",
        "budget": f"{seconds:g} CPU seconds of one thread per run, as timed before; samples follow from it",
        "samples": f"{DRAWN} images, {STEPS} steps of DPM-Solver++(2M), guidance {GUIDANCE.scale:g}, averaged weights",
        "machine": f"{platform.processor() or platform.machine()}, one thread, bf16 where the CPU has it",
        **versions(),
    }
    return {"about": about, "total": compared(found, TOP, "ldm2022"), "rungs": rungs}


def write_page(told: dict[str, Any], path: Path) -> None:
    total, lines = told["total"], ["# The ladder from `ldm2022` to `modern`", ""]
    lines += [f"- {key}: {value}" for key, value in told["about"].items()]
    lines += [
        f"- {TOP} against ldm2022: {signed(total)} over {total['seeds']} seeds",
        "",
        "| change | KID-EffLite0 | of | difference (95 %) | verdict | samples |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in told["rungs"].items():
        step = row["compared"]
        told_step = f"{step['of']} | {signed(step)} | {verdict(step)}" if step else "| |"
        score = f"{row['kid']:.3f} ± {row['half_width']:.3f}"
        lines.append(f"| {name} | {score} | {told_step} | {row['samples']} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def signed(step: dict[str, Any]) -> str:
    return f"{step['difference']:+.3f} ± {step['half_width']:.3f}"


def verdict(step: dict[str, Any]) -> str:
    if abs(step["difference"]) <= step["half_width"]:
        return "cannot be told"
    return "better" if step["difference"] < 0 else "worse"


def draw(told: dict[str, Any], runs: Path, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(told["rungs"])
    figure = pyplot.figure(figsize=(11, 8.6), constrained_layout=True)
    grid = figure.add_gridspec(3, 2, height_ratios=(7, 1, 1))
    left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    colours = {"better": "#2563a8", "worse": "#d1622b", "cannot be told": "#8a8a8a"}
    for row, each in enumerate(told["rungs"].values()):
        left.errorbar(each["kid"], row, xerr=each["half_width"], fmt="o", color="#333333", markersize=4, capsize=2)
    left.set_yticks(range(len(names)), names)
    left.set_title("KID-EffLite0 in equal time (lower is better)", fontsize=10)
    for row, each in enumerate(told["rungs"].values()):
        if (step := each["compared"]) is not None:
            style = {"fmt": "o", "color": colours[verdict(step)], "markersize": 4, "capsize": 2}
            right.errorbar(step["difference"], row, xerr=step["half_width"], **style)
            right.annotate(f"of {step['of']}", (1.02, row), xycoords=("axes fraction", "data"), fontsize=7, va="center")
    right.axvline(0, color="#333333", linewidth=0.8)
    right.set_yticks([])
    right.set_title("difference from what it changes, seed by seed (95 %)", fontsize=10)
    for axis in (left, right):
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.axhline(len(CLIMB) + 0.5, color="#bbbbbb", linewidth=0.8, linestyle=(0, (2, 2)))
        axis.spines[["top", "right"]].set_visible(False)
    for row, name in ((1, "ldm2022"), (2, TOP)):
        axis = figure.add_subplot(grid[row, :])
        axis.imshow(np.asarray(Image.open(runs / name.replace(" ", "_").replace(",", "") / "0" / "samples.png")))
        axis.set_title(f"{name}, seed 0", fontsize=9, loc="left")
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/ladder"))
    parser.add_argument("--seconds", type=float, default=30.0, help="CPU seconds of one thread for each run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("docs/results/recipe_ladder"))
    parser.add_argument("--report-only", action="store_true", help="write the results of the runs that are there")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments.runs)
    if not arguments.report_only:
        samples = bench.samples(arguments.seconds)
        seeds = range(arguments.seeds)
        climb, tried = ([rung.name for rung in rungs] for rungs in (CLIMB, ALSO_TRIED))
        jobs = [(name, seed) for seed in seeds for name in ("ldm2022", TOP)]
        jobs += [(name, seed) for seed in seeds for name in climb]
        for name, seed in [*jobs, *itertools.product(tried, seeds)]:
            bench.run(name, seed, samples[name])
    found = bench.results(range(arguments.seeds))
    if {"ldm2022", *(rung.name for rung in CLIMB)} <= found.keys():
        told = summary(found, arguments.seconds)
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        write_page(told, arguments.results.with_suffix(".md"))
        draw(told, arguments.runs, arguments.results.with_suffix(".png"))


if __name__ == "__main__":
    main()
