"""UNet and DiT by the same method at equal CPU time, on latents of the embedded emoji faces.

    .venv/bin/python benchmarks/backbones.py --seconds 300 --out docs/results/backbones

Both train on one thread by the presets' own recipes on the latents of the embedded model's autoencoder; they take
turns, one step each, so that a noisy machine disturbs both alike, until each has had its CPU seconds. The learning rate
falls as over a run of that length. Validation is on held-out images with fixed noise; samples are for the captions of
training images. Writes NAME.json and NAME.png.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib
import torch

from calotype.artifact import read_artifact
from calotype.chain.source import open_source
from calotype.chain.stages import latent_loader, loader
from calotype.encoders import EfficientNetLite0Features
from calotype.evaluation.frechet import kernel_distance
from calotype.pipeline import load_autoencoder
from calotype.presets import DIFFUSION
from calotype.presets.embedded import embedded_model
from calotype.training.diffusion_recipe import DiffusionRecipe
from calotype.training.draws import Draws
from calotype.training.ema import MovingAverage
from calotype.training.session import start_session
from calotype.utils.images import image_grid

NAMES = ("modern", "dit-small")


class Contestant:
    """A preset in training, with the CPU seconds that its steps took."""

    def __init__(self, name: str, recipe: DiffusionRecipe, session: Any) -> None:
        self.preset, self.recipe, self.batch_size = DIFFUSION[name], recipe, DIFFUSION[name].batch_size
        recipe.start(session, self.batch_size)
        self.average = MovingAverage(recipe.averaged, self.preset.method.ema)
        self.seconds, self.steps, self.curve = 0.0, 0, []

    def step(self, budget: float) -> None:
        begun, seen = time.process_time(), self.steps * self.batch_size
        share = min(self.seconds / budget, 1.0)
        for optimiser, settings in self.recipe.optimisers.values():
            warm = min(1.0, (seen + 1) / settings.warmup_samples)
            left = min(1.0, (1 - share) / (1 - settings.decay_from))
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * warm * left
        batch = self.recipe.train.batch(seen, self.batch_size)
        self.recipe.step(batch, Draws(0, seen, self.batch_size, slice(None)))
        self.steps += 1
        self.average.update(self.steps)
        self.seconds += time.process_time() - begun

    def look(self) -> None:
        loss = self.recipe.validate(self.average.modules)["loss"]
        self.curve.append({"cpu_seconds": self.seconds, "steps": self.steps, "validation_loss": loss})
        print(f"{self.preset.name:10s} {self.seconds:6.0f} s {self.steps:5d} steps  {loss:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--looks", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True, help="NAME of NAME.json and NAME.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    session, artifact, source = start_session("cpu"), read_artifact(embedded_model()), open_source("emoji:faces")
    first_stage = load_autoencoder(artifact)
    with tempfile.TemporaryDirectory() as folder:
        train, held_out = (
            latent_loader(artifact, images, Path(folder), 0, session) for images in (source.train, source.held_out)
        )
    contestants = []
    for name in NAMES:
        torch.manual_seed(0)
        config = DIFFUSION[name].recipe(first_stage.model.latent_channels, source.train)
        contestants.append(Contestant(name, DiffusionRecipe(config, artifact, train, held_out), session))
    for look in range(1, arguments.looks + 1):
        until = arguments.seconds * look / arguments.looks
        while waiting := [each for each in contestants if each.seconds < until]:
            min(waiting, key=lambda each: each.seconds).step(arguments.seconds)
        for each in contestants:
            each.look()
    rows, pictures = {}, []
    features = EfficientNetLite0Features()
    real = loader(source.train, first_stage.size, 0).at(range(len(source.train))).images
    real_features = features(real)
    asked = list(range(0, len(train), max(1, len(train) // arguments.samples)))[: arguments.samples]
    for each in contestants:
        fields = each.recipe._fields(train.at(asked))
        model = each.recipe._pipeline(each.average.modules)
        with session.autocast():
            images = model.sample(seeds=range(len(asked)), steps=20, **fields)
        pictures.append(images[:: max(1, len(asked) // 16)][:16])
        distance = kernel_distance(features(images), real_features)
        rows[each.preset.name] = {
            "parameters": sum(p.numel() for p in each.recipe.network.parameters()),
            "steps": each.steps,
            "cpu_seconds": each.seconds,
            "milliseconds_per_step": 1000 * each.seconds / each.steps,
            "kid_efflite0": distance.value,
            "kid_efflite0_standard_error": distance.standard_error,
            "curve": each.curve,
        }
        print(each.preset.name, f"KID-EffLite0 {distance.value:.5f} +- {distance.standard_error:.5f}", flush=True)
    environment = {"torch": torch.__version__, "threads": 1, "machine": platform.machine(), "bf16": session.bf16}
    protocol = (
        f"{len(train)} training latents of emoji:faces by the embedded autoencoder, {arguments.seconds:g} CPU seconds "
        f"each on one thread, batches of 64; {len(asked)} samples for captions of training images, 20 steps of "
        f"DPM-Solver++(2M), guidance 3, against all {len(real)} training images"
    )
    write(arguments.out, {"protocol": protocol, "environment": environment, "rows": rows}, pictures)


def write(out: Path, result: dict[str, Any], pictures: list[torch.Tensor]) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    figure, (left, *grids) = plt.subplots(3, 1, figsize=(9, 7), height_ratios=(3, 1, 1), layout="constrained")
    for (name, row), axes, images in zip(result["rows"].items(), grids, pictures, strict=True):
        seconds, losses = ([point[key] for point in row["curve"]] for key in ("cpu_seconds", "validation_loss"))
        left.plot(seconds, losses, "o-", label=f"{name}: {row['parameters'] / 1e6:.1f} M, {row['steps']} steps")
        axes.imshow(image_grid(images, columns=16))
        axes.set_title(f"{name}: KID-EffLite0 {row['kid_efflite0']:.4f}", fontsize=10)
        axes.axis("off")
    left.set(xlabel="CPU seconds of training steps, one thread", ylabel="validation loss, averaged weights")
    left.legend(frameon=False)
    figure.savefig(out.with_suffix(".png"), dpi=130)


if __name__ == "__main__":
    main()
