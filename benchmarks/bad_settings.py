"""An autoencoder with settings that ruin a GAN, on real photographs: our recipe and the reference's, in the same code.

    .venv/bin/python scripts/build_tiles.py --out runs/tiles /usr/share/backgrounds /usr/share/wallpapers
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/bad_settings.py runs/tiles

The folder holds train/ and held_out/. Every run sees the same images in the same number; the model is kl-f4-small at a
third of its width and without the perceptual loss, so that a run takes little more than a minute of one CPU thread
(three minutes at batch 1). *Ours*: the preset's recipe. *Reference's*: the same losses and rates with Adam at betas
(0.5, 0.9), without warm-up, decay or clipping, BatchNorm in the discriminator, full weight at once, adaptive weight up
to 1e4, raw weights instead of their average, and nothing that intervenes. Stop it and run it again: it goes on;
``--only`` does a part, or with nothing behind it only draws. Writes docs/results/bad_settings.json and
docs/results/bad_settings.png, of the runs that are through.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from calotype.artifact import versions
from calotype.data.folder import scan_folder
from calotype.data.image_set import ImageSet
from calotype.data.loader import Loader
from calotype.data.pixel_format import PixelFormat
from calotype.data.transforms import Transform
from calotype.losses import NoPerceptualConfig
from calotype.presets import AUTOENCODERS
from calotype.training.autoencoder_recipe import AutoencoderRecipe, AutoencoderRecipeConfig
from calotype.training.ema import ConstantEMA
from calotype.training.logs import read_metrics
from calotype.training.optimiser import OptimiserConfig
from calotype.training.trainer import Trainer, TrainerConfig, TrainingError

SIZE, CHANNELS, DISC_CHANNELS, BATCH, WARM_UP = 64, 32, 24, 16, 800
TRAIN_IMAGES, HELD_OUT_IMAGES = 4_096, 128
SETTINGS = {
    "healthy": "as they should be",
    "rate": "learning rates x30",
    "weight": "disc_weight x20",
    "cold": "no warm-up, discriminator from the first image",
    "single": "batch 1",
    "everything": "all of these but batch 1",
}
RECIPES = {"ours": "calotype", "reference": "the reference's recipe"}
COLOURS = {"ours": "#2563a8", "reference": "#d1622b"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=6_000)
    parser.add_argument("--runs", type=Path, default=Path("runs/bad_settings"))
    parser.add_argument("--only", nargs="*", default=[f"{recipe}/{name}" for name in SETTINGS for recipe in RECIPES])
    parser.add_argument("--results", type=Path, default=Path("docs/results/bad_settings.json"))
    parser.add_argument("--picture", type=Path, default=Path("docs/results/bad_settings.png"))
    arguments = parser.parse_args()
    train = evenly(scan_folder(arguments.folder / "train").images, TRAIN_IMAGES)
    held_out = evenly(scan_folder(arguments.folder / "held_out").images, HELD_OUT_IMAGES)
    for name in arguments.only:
        recipe, settings = name.split("/")
        run(recipe, settings, train, held_out, arguments.runs / name, arguments.samples)
    found = {f"{r}/{s}": each for s in SETTINGS for r in RECIPES if (each := result(arguments.runs / r / s))}
    through = {s: title for s, title in SETTINGS.items() if f"ours/{s}" in found}
    if all(f"{r}/healthy" in found for r in RECIPES):
        write(found, through, arguments.results, arguments.samples)
        draw(found, through, arguments.picture)


def evenly(images: ImageSet, count: int) -> ImageSet:
    return images.subset(range(0, len(images), max(1, len(images) // count))[:count])


def run(recipe: str, settings: str, train: ImageSet, held_out: ImageSet, out: Path, samples: int) -> None:
    config, batch = spoilt(ours() if recipe == "ours" else as_reference(ours()), settings)
    torch.manual_seed(0)
    made = AutoencoderRecipe(
        config, Loader(train, Transform(size=SIZE, flip=True)), Loader(held_out, Transform(size=SIZE, flip=False))
    )
    own: dict[str, Any] = {} if recipe == "ours" else {"interventions": 0, "ema": ConstantEMA(decay=0.0)}
    intervals = {"validate_every": samples // 16, "checkpoint_every": samples // 3, "preview_every": samples}
    trainer = Trainer(
        TrainerConfig(
            out=str(out), samples=samples, batch_size=batch, device="cpu", precision="fp32", **intervals, **own
        )
    )
    try:
        trainer.fit(made, made.train)
    except TrainingError as error:
        (out / "ended.txt").write_text(str(error))


def ours() -> AutoencoderRecipeConfig:
    """The recipe of kl-f4-small for a smaller model; the discriminator joins at half of the run, to have its time."""
    preset = AUTOENCODERS["kl-f4-small"]
    config = preset.recipe(PixelFormat(), SIZE)
    discriminator = replace(config.loss.discriminator, channels=DISC_CHANNELS)
    loss = replace(config.loss, discriminator=discriminator, perceptual=NoPerceptualConfig(), perceptual_weight=0.0)
    return replace(
        config,
        autoencoder=replace(config.autoencoder, channels=CHANNELS),
        loss=loss,
        disc_from=0.5,
        disc_ramp=0.1,
        optimiser=replace(config.optimiser, warmup_samples=WARM_UP),
        discriminator_optimiser=replace(config.discriminator_optimiser, warmup_samples=WARM_UP),
    )


def as_reference(config: AutoencoderRecipeConfig) -> AutoencoderRecipeConfig:
    """The same losses and rates with what the reference does around them."""

    def plain(optimiser: OptimiserConfig) -> OptimiserConfig:
        return replace(optimiser, betas=(0.5, 0.9), warmup_samples=0, decay_from=1.0, clip=0.0)

    discriminator = replace(config.loss.discriminator, normalisation="batch")
    return replace(
        config,
        loss=replace(config.loss, discriminator=discriminator, d_weight_cap=1e4),
        disc_ramp=0.0,
        optimiser=plain(config.optimiser),
        discriminator_optimiser=plain(config.discriminator_optimiser),
    )


def spoilt(config: AutoencoderRecipeConfig, settings: str) -> tuple[AutoencoderRecipeConfig, int]:
    """Return the recipe with bad settings, and the batch size."""
    every = settings == "everything"
    if settings == "rate" or every:
        config = replace(
            config, optimiser=faster(config.optimiser), discriminator_optimiser=faster(config.discriminator_optimiser)
        )
    if settings == "weight" or every:
        config = replace(config, loss=replace(config.loss, disc_weight=20 * config.loss.disc_weight))
    if settings == "cold" or every:
        config = replace(
            config,
            disc_from=0.0,
            disc_ramp=0.0,
            optimiser=replace(config.optimiser, warmup_samples=0),
            discriminator_optimiser=replace(config.discriminator_optimiser, warmup_samples=0),
        )
    return config, 1 if settings == "single" else BATCH


def faster(optimiser: OptimiserConfig) -> OptimiserConfig:
    return replace(optimiser, learning_rate=30 * optimiser.learning_rate)


def result(out: Path) -> dict[str, Any] | None:
    """Return a finished run's curve and what its guard said."""
    rows = read_metrics(out / "metrics.jsonl")
    curve = [(row["samples"], row["validation/psnr"]) for row in rows if "validation/psnr" in row]
    said = [{"samples": row["samples"], "said": row["message"]} for row in rows if row.get("kind") == "health"]
    ended = (out / "ended.txt").read_text() if (out / "ended.txt").exists() else None
    if ended is None and not list(out.glob("checkpoints/*/autoencoder_ema.safetensors")):
        return None
    return {"psnr": round(curve[-1][1], 2), "curve": curve, "health": said, "ended": ended}


def write(found: dict[str, Any], through: dict[str, str], path: Path, samples: int) -> None:
    table = {
        name: {
            "title": title,
            **{r: found[f"{r}/{name}"]["psnr"] for r in RECIPES if f"{r}/{name}" in found},
            **{
                f"{r} - healthy": round(found[f"{r}/{name}"]["psnr"] - found[f"{r}/healthy"]["psnr"], 2)
                for r in RECIPES
                if f"{r}/{name}" in found
            },
        }
        for name, title in through.items()
    }
    about = {
        "what": "PSNR (dB) of held-out tiles at the end, and less that of the same recipe with healthy settings",
        "samples": samples,
        "model": f"kl-f4-small, {CHANNELS} channels (discriminator {DISC_CHANNELS}), no perceptual loss",
        "data": f"photographs, tiles of {SIZE} px, in batches of {BATCH} or 1",
        **versions(),
    }
    runs = {name: {**each, "curve": [[s, round(p, 2)] for s, p in each["curve"]]} for name, each in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, "table": table, "runs": runs}, indent=1) + "\n")
    for name, row in table.items():
        print(f"{name:12}", *(f"{r} {row[r]:6.2f} ({row[f'{r} - healthy']:+.2f})" for r in RECIPES if r in row))


def draw(found: dict[str, Any], through: dict[str, str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(11, 5.8), sharex=True, sharey=True, constrained_layout=True)
    for axis in axes.flat[len(through) :]:
        axis.set_visible(False)
    axes.flat[0].set_ylim(5, 27)
    healthy = found["ours/healthy"]["psnr"]
    for axis, (name, title) in zip(axes.flat, through.items(), strict=False):
        axis.axhspan(healthy - 1, healthy + 1, color=COLOURS["ours"], alpha=0.12, linewidth=0)
        for recipe, label in RECIPES.items():
            own = found[f"{recipe}/healthy"]["psnr"]
            axis.axhline(own, color=COLOURS[recipe], linewidth=0.8, linestyle=(0, (2, 2)))
            if (each := found.get(f"{recipe}/{name}")) is None:
                continue
            axis.plot(*zip(*each["curve"], strict=True), color=COLOURS[recipe], label=f"{label}: {each['psnr']:.1f} dB")
        heights = dict(found[f"ours/{name}"]["curve"])
        for event in found[f"ours/{name}"]["health"]:
            near = min(heights, key=lambda s, at=event["samples"]: abs(s - at))
            axis.plot(event["samples"], heights[near], "v", color=COLOURS["ours"], markersize=5)
        axis.set_title(title, fontsize=10)
        axis.legend(fontsize=8, loc="lower right", frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "images seen (triangles: the guard said or did something; dotted: the healthy runs; band: ours +- 1 dB)",
        fontsize=9,
    )
    figure.supylabel("PSNR of held-out tiles (dB)", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
