"""From the paper's recipe to `modern`, one change at a time, on the embedded faces: what each is worth in equal time.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/recipe_ladder.py --runs runs/ladder

Every rung is its parent with one change. All train the same small network on the latents of the embedded autoencoder
for the same CPU seconds of one thread: steps of all rungs are timed first, interleaved, and each rung then gets the
samples that fit. A seed is a data order, initial weights and every draw; rungs are compared seed by seed. Scored is the
KID-EffLite0 between samples (averaged weights, DPM-Solver++(2M), guidance 3, captions of training images, fixed seeds)
and the training images: lower is better. Stop it and run it again, also several at a time: finished runs are kept.
Writes docs/results/recipe_ladder.json, .md and .png with the rungs of which all runs are there; the two ends
come first. The rungs are in recipe_ladder_rungs.py.
"""

import argparse
import fcntl
import itertools
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from recipe_ladder_page import Found, write
from recipe_ladder_rungs import ALSO_TRIED, CLIMB, RUNGS, SHAPE, TOP, folder_of, method_of

from calotype.artifact import Artifact, read_artifact
from calotype.chain.source import open_source
from calotype.chain.stages import latent_loader, loader
from calotype.data.latents import LatentLoader
from calotype.diffusion import CFG
from calotype.encoders import EfficientNetLite0Features
from calotype.evaluation import kernel_distance
from calotype.pipeline import load_latent_diffusion
from calotype.presets.diffusion import DiffusionPreset
from calotype.presets.embedded import embedded_model
from calotype.training.diffusion_recipe import DiffusionRecipe
from calotype.training.draws import Draws
from calotype.training.session import start_session
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils.files import read_json, write_json
from calotype.utils.images import image_grid, save_png
from calotype.utils.tensors import load_tensors, save_tensors

DRAWN, STEPS, GUIDANCE, SHOWN = 128, 10, CFG(3.0), 12


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
        folder = folder_of(self.runs, name) / str(seed)
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

    def results(self, seeds: range) -> Found:
        """Return what was found for the rungs of which every seed is done."""
        folders = {name: folder_of(self.runs, name) for name in RUNGS}
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
    if {"ldm2022", TOP} <= found.keys():
        protocol = f"{DRAWN} images, {STEPS} steps of DPM-Solver++(2M), guidance {GUIDANCE.scale:g}, averaged weights"
        write(found, arguments.seconds, protocol, arguments.runs, arguments.results)


if __name__ == "__main__":
    main()
