"""What the weight of the KL does to an autoencoder's latents, and to samples of a diffusion model trained on them.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/kl_weight.py

For every weight: an autoencoder (kl-f4-small without a discriminator) and a diffusion model (modern) on its latents,
on the faces of the embedded emoji, the same images in the same number. Measured on faces of unseen concepts: PSNR;
the rate, which is the KL from the standard normal in bits per pixel; the standard deviations of latents and
posterior; and on 192 samples for training captions KID-EffLite0 against the training images. One seed each: read the
distances with their standard errors. Finished rows are not repeated; ``--only`` does a part. Writes
docs/results/kl_weight.json and .png.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from calotype.artifact import read_artifact, versions
from calotype.chain.judge import examine_autoencoder, judge_samples
from calotype.chain.source import Source, open_source
from calotype.chain.stages import loader, train_diffusion
from calotype.evaluation.instruments import Instruments
from calotype.pipeline import load_autoencoder, load_latent_diffusion
from calotype.presets import AUTOENCODERS, DIFFUSION
from calotype.training.autoencoder_recipe import AutoencoderRecipe, AutoencoderRecipeConfig
from calotype.training.session import Session, start_session
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils.images import image_grid, save_png

SIZE, WARM_UP = 64, 1_280
PRESET = AUTOENCODERS["kl-f4-small"]
WEIGHTS = (0.0, 1e-4, 2e-3, 2e-2)
ROWS = [f"{weight:g}" for weight in WEIGHTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autoencoder-samples", type=int, default=4_800)
    parser.add_argument("--diffusion-samples", type=int, default=8_000)
    parser.add_argument("--samples", type=int, default=192)
    parser.add_argument("--runs", type=Path, default=Path("runs/kl_weight"))
    parser.add_argument("--only", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--results", type=Path, default=Path("docs/results/kl_weight"))
    arguments = parser.parse_args()
    source, session = open_source("emoji:faces"), start_session("cpu")
    for name in arguments.only:
        out = arguments.runs / name
        if not (out / "result.json").exists():
            train(name, source, session, out, arguments)
            (out / "result.json").write_text(json.dumps(measure(source, session, out, arguments.samples), indent=1))
        print(name, (out / "result.json").read_text(), flush=True)
    done = {name: arguments.runs / name / "result.json" for name in ROWS}
    if all(path.exists() for path in done.values()):
        found = {name: json.loads(path.read_text()) for name, path in done.items()}
        write(found, arguments, session)
        draw(found, arguments.results.with_suffix(".png"))


def autoencoder_config(name: str, source: Source) -> AutoencoderRecipeConfig:
    config = PRESET.recipe(source.train.pixel_format, SIZE)
    config = replace(config, disc_from=1.0, optimiser=replace(config.optimiser, warmup_samples=WARM_UP))
    return replace(config, loss=replace(config.loss, kl_weight=float(name)))


def train(name: str, source: Source, session: Session, out: Path, arguments: argparse.Namespace) -> None:
    began = time.process_time()
    images = loader(source.train, SIZE, 0)
    torch.manual_seed(0)
    settings = TrainerConfig(
        out=str(out / "autoencoder"), samples=arguments.autoencoder_samples, batch_size=PRESET.batch_size, device="cpu"
    )
    checkpoint = Trainer(settings).fit(AutoencoderRecipe(autoencoder_config(name, source), images), images)
    second = DIFFUSION["modern"]
    settings = replace(
        settings, out=str(out / "diffusion"), samples=arguments.diffusion_samples, batch_size=second.batch_size
    )
    train_diffusion(second, source, read_artifact(checkpoint), out / "latents", settings, session)
    print(f"{name}: trained in {time.process_time() - began:.0f} CPU seconds", flush=True)


def measure(source: Source, session: Session, out: Path, count: int) -> dict[str, float]:
    autoencoder = load_autoencoder(read_artifact(out / "autoencoder"))
    metrics = examine_autoencoder(autoencoder, source.held_out, Instruments(None, (), {}), most=512).metrics
    latents, reconstruction = metrics["latents"], metrics["reconstruction"]
    found = {
        "psnr": reconstruction["psnr"],
        "rate": latents["kl"]["per_image"] / torch.log(torch.tensor(2.0)).item() / SIZE**2,
        "latent_std": sum(each["std"] for each in latents["channels"]) / len(latents["channels"]),
        "posterior_std": sum(each["posterior_std"] for each in latents["channels"]) / len(latents["channels"]),
    }
    model = load_latent_diffusion(read_artifact(out / "diffusion"))
    drawn = judge_samples(model, source, session, count=count, seed=0).samples
    save_png(out / "samples.png", image_grid(drawn.images[:24], columns=12))
    assert drawn.metrics is not None
    kid = drawn.metrics["kid"]
    return found | {"kid": kid["value"], "kid_se": kid["standard_error"]}


def write(found: dict[str, Any], arguments: argparse.Namespace, session: Session) -> None:
    about = {
        "what": (
            "PSNR (dB), rate (bits per pixel), standard deviations on unseen faces; KID-EffLite0 of samples against "
            "training images; one seed"
        ),
        "autoencoder": f"{PRESET.name} without discriminator, {arguments.autoencoder_samples} images",
        "diffusion": f"modern, {arguments.diffusion_samples} samples; {arguments.samples} drawn",
        "precision": "bf16 autocast" if session.bf16 else "float32",
        **versions(),
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    rows = {name: {key: round(value, 5) for key, value in row.items()} for name, row in found.items()}
    arguments.results.with_suffix(".json").write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")


def draw(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(13, 3.3), constrained_layout=True)
    names = [f"{weight:g}" for weight in WEIGHTS]
    places = range(len(names))
    panels = {"rate": "rate (bits per pixel)", "psnr": "PSNR of unseen faces (dB)", "kid": "KID-EffLite0 of samples"}
    for axis, (key, title) in zip((axes[0], axes[1], axes[3]), panels.items(), strict=True):
        errors = [found[name].get(f"{key}_se", 0.0) for name in names]
        axis.errorbar(places, [found[name][key] for name in names], yerr=errors, color="#2563a8", marker="o", capsize=2)
        axis.set_title(title, fontsize=10)
    for key, label, colour in (("latent_std", "latents", "#2563a8"), ("posterior_std", "posterior", "#3f9142")):
        axes[2].plot(places, [found[name][key] for name in names], color=colour, marker="o", label=label)
    axes[2].set_title("standard deviation", fontsize=10)
    axes[2].set_yscale("log")
    for axis in axes:
        axis.set_xticks(places, names)
        axis.set_xlabel("KL weight")
        axis.spines[["top", "right"]].set_visible(False)
    axes[2].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
