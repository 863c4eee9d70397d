"""The data, the yardstick and the trainer that all rungs of recipe_ladder.py share."""

import fcntl
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from recipe_ladder_page import Found
from recipe_ladder_rungs import RUNGS, SHAPE, folder_of, method_of

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
PROTOCOL = f"{DRAWN} images, {STEPS} steps of DPM-Solver++(2M), guidance {GUIDANCE.scale:g}, averaged weights"
WARM_UP = 2


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Bench:
    """One thread, the latents of the embedded autoencoder and the features of the images, made once for a folder."""

    def __init__(self, runs: Path) -> None:
        torch.set_num_threads(1)
        runs.mkdir(parents=True, exist_ok=True)
        self.runs, self.session = runs, start_session("cpu")
        self.artifact: Artifact = read_artifact(embedded_model(), kind="latent_diffusion")
        self.source = open_source("emoji:faces")
        self.features = EfficientNetLite0Features()
        with locked(runs / "shared.lock"):
            self.latents = latent_loader(self.artifact, self.source.train, runs / "latents", 0, self.session)
            self.reference = self._reference(runs / "reference.safetensors")
        chosen = torch.linspace(0, len(self.latents) - 1, DRAWN).long().tolist()
        self.captions = [self.latents.records[index].fields["caption"] for index in chosen]

    def recipe(self, name: str, seed: int) -> DiffusionRecipe:
        preset = DiffusionPreset(name=name, summary="", shape=SHAPE, method=method_of(name))
        train = LatentLoader(self.latents.moments, self.latents.records, seed)
        torch.manual_seed(seed)
        return _NoPreview(preset.recipe(4, self.source.train), self.artifact, train)

    def times(self, names: list[str], turns: int) -> dict[str, list[float]]:
        """Return the CPU seconds of ``turns`` steps of each rung, all in turn, after some to warm up."""
        recipes = {name: self.recipe(name, 0) for name in names}
        times: dict[str, list[float]] = {name: [] for name in names}
        for name, recipe in recipes.items():
            recipe.start(self.session, method_of(name).batch_size)
        for turn in range(WARM_UP + turns):
            for name, recipe in recipes.items():
                size, start = method_of(name).batch_size, time.process_time()
                recipe.step(recipe.train.batch(turn * size, size), Draws(0, turn * size, size, slice(None)))
                times[name].append(time.process_time() - start)
        return {name: values[WARM_UP:] for name, values in times.items()}

    def run(self, name: str, seed: int, samples: int) -> str:
        """Train, draw and measure, unless it is done or another process is at it; return what is to be said of it."""
        folder = folder_of(self.runs, name) / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return "another process is at it"
            if not (folder / "result.json").exists():
                write_json(folder / "result.json", self._result(folder, name, seed, samples))
        found = read_json(folder / "result.json")
        return f"KID-EffLite0 {found['kid']:.3f}  {found['cpu_seconds']:.0f} s"

    def _result(self, folder: Path, name: str, seed: int, samples: int) -> dict[str, Any]:
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
        return {**found, "samples": samples, "cpu_seconds": round(spent, 1)}

    def _reference(self, path: Path) -> torch.Tensor:
        if not path.exists():
            images = loader(self.source.train, 64, 0)
            save_tensors(path, {"features": self.features.extract(batch.images for batch in images.all(64))})
        return load_tensors(path)["features"]


def samples_in(seconds: float, times: dict[str, list[float]]) -> dict[str, int]:
    """Return how many samples of each rung take ``seconds``, by the lower quartile of the times of its steps."""
    quartiles = {name: statistics.quantiles(each, n=4)[0] for name, each in times.items()}
    return {name: max(1, int(seconds / each)) * method_of(name).batch_size for name, each in quartiles.items()}


class _NoPreview(DiffusionRecipe):
    def preview(self, averaged: Any) -> None:  # noqa: ARG002 - its time would count
        return None


def results(runs: Path, seeds: range) -> Found:
    """Return what was found for the rungs of which every seed is done."""
    found = {
        name: {
            seed: read_json(path)
            for seed in seeds
            if (path := folder_of(runs, name) / str(seed) / "result.json").exists()
        }
        for name in RUNGS
    }
    return {name: done for name, done in found.items() if len(done) == len(seeds)}
