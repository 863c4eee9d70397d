"""Bits per pixel of scikit-learn's digits: diffusion in pixels and in latents, against densities that need no network.

    .venv/bin/python benchmarks/digits_likelihood.py --seed 0 --parts /tmp/digits     (once for each seed)
    .venv/bin/python benchmarks/digits_likelihood.py --report /tmp/digits

1797 digits of 8x8 pixels with 17 levels, a fifth of them held out (the same for every seed). One thread of a CPU.
Writes docs/results/digits_likelihood.json, .md and .png.
"""

import argparse
import json
import math
import platform
import shutil
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from sklearn.svm import SVC

from calotype.artifact import Artifact, read_artifact
from calotype.data import ImageSet, Loader, PixelFormat, Record, Transform
from calotype.data.batch import Batch
from calotype.data.latents import LatentLoader
from calotype.diffusion import CFG
from calotype.evaluation.likelihood import evaluate_likelihood
from calotype.evaluation.nearest import memorisation, nearest_images
from calotype.losses import LPIPSWithDiscriminatorConfig, NLayerDiscriminatorConfig, NoPerceptualConfig
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.pipeline import LatentDiffusion, load
from calotype.presets.diffusion import MODERN, DiffusionPreset
from calotype.presets.shapes import UNetShape
from calotype.training.autoencoder_recipe import AutoencoderRecipe, AutoencoderRecipeConfig
from calotype.training.diffusion_recipe import DiffusionRecipe
from calotype.training.encode import encode_latents
from calotype.training.optimiser import OptimiserConfig
from calotype.training.pixel_space import pixel_space
from calotype.training.session import start_session
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils.files import digest
from calotype.utils.images import image_grid

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
LEVELS, SIZE, BATCH = 17, 8, 64
COMPONENTS, LEAST_VARIANCES = (
    10,
    (0.05, 0.3),
)  # the best of 1, 10, 20 and 0.05, 0.3, 1 on a fifth of the training images
SAMPLES = {"pixels": 48_000, "autoencoder": 24_000, "latents": 32_000}
MEASURED = 180
GUIDANCE = (1.0,)


class Digits(ImageSet):
    """The digits at ``indices``, with their class; pixels are 0 to 16."""

    source = "scikit-learn digits"
    pixel_format = PixelFormat(channels=1, high=16.0)

    def __init__(self, indices: np.ndarray) -> None:
        digits = load_digits()
        self.images = digits.images[indices].astype(np.uint8)
        self.labels = digits.target[indices]
        self.records = tuple(
            Record(str(i), {"class": str(label)}) for i, label in zip(indices, self.labels, strict=True)
        )

    def pixels(self, index: int) -> np.ndarray:
        return self.images[index][..., None]

    @cached_property
    def fingerprint(self) -> str:
        return digest(repr(self.records))


def split() -> tuple[Digits, Digits]:
    order = np.random.default_rng(0).permutation(1797)
    return Digits(order[359:]), Digits(order[:359])


def loader(images: Digits) -> Loader:
    return Loader(images, Transform(size=SIZE))


def baselines(train: Digits, held_out: Digits) -> dict[str, dict[str, float]]:
    """Bits per pixel of the held-out digits; continuous densities with uniform dequantisation, one draw."""
    x, y = (images.images.reshape(len(images), -1) for images in (train, held_out))
    draw = np.random.default_rng(1)
    u, v = (each + draw.random(each.shape) - 0.5 for each in (x, y))
    counts = np.stack([(x == level).sum(0) for level in range(LEVELS)]) + 1.0
    shares = counts / counts.sum(0)
    normal = GaussianMixture(1, reg_covar=LEAST_VARIANCES[0], random_state=0).fit(u)
    mixture = GaussianMixture(COMPONENTS, reg_covar=LEAST_VARIANCES[1], random_state=0).fit(u)
    nats = {
        "17 levels, all alike": np.full(len(y), 64 * math.log(LEVELS)),
        "a histogram for each pixel (counts + 1)": -np.log(shares[y, np.arange(64)]).sum(1),
        "one normal distribution, full covariance": -normal.score_samples(v),
        f"a mixture of {COMPONENTS} of them": -mixture.score_samples(v),
    }
    return {name: mean_and_error(each / (64 * math.log(2))) for name, each in nats.items()}


def mean_and_error(values: np.ndarray) -> dict[str, float]:
    return {"value": float(values.mean()), "standard_error": float(values.std(ddof=1) / math.sqrt(len(values)))}


def train_autoencoder(folder: Path, train: Digits, seed: int) -> Artifact:
    """A variational autoencoder proper: Laplace likelihood with a learned scale, KL at weight 1, no discriminator."""
    shape = AutoencoderKLConfig(
        image_channels=1, resolution=SIZE, channels=32, channel_multipliers=(1, 2), num_res_blocks=1, latent_channels=4
    )
    unused = NLayerDiscriminatorConfig(in_channels=1, channels=4, num_layers=1)
    loss = LPIPSWithDiscriminatorConfig(
        discriminator=unused, perceptual=NoPerceptualConfig(), perceptual_weight=0.0, disc_start=0, kl_weight=1.0
    )
    config = AutoencoderRecipeConfig(
        autoencoder=shape, loss=loss, learn_logvar=True, optimiser=OptimiserConfig(learning_rate=2e-3)
    )
    torch.manual_seed(seed)
    images = loader(train)
    Trainer(settings(folder, "autoencoder", seed)).fit(AutoencoderRecipe(config, images), images)
    return read_artifact(folder)


def train_diffusion(folder: Path, autoencoder: Artifact, train: Digits, seed: int, what: str) -> LatentDiffusion:
    preset = DiffusionPreset(
        name="digits", summary="", shape=UNetShape(channels=32, attention_factors=(2,)), method=MODERN.rate(3e-3)
    )
    first_stage = load(autoencoder.folder)
    images, session = loader(train), start_session("cpu", "fp32")
    moments = encode_latents(first_stage.model, images, folder / "latents", "train", session, quiet=True)
    latents = LatentLoader(moments, train.records, seed)
    config = preset.recipe(first_stage.model.latent_channels, train)
    torch.manual_seed(seed)
    Trainer(settings(folder, what, seed)).fit(DiffusionRecipe(config, autoencoder, latents), latents)
    return load(folder)


def settings(folder: Path, what: str, seed: int) -> TrainerConfig:
    return TrainerConfig(
        out=str(folder),
        samples=SAMPLES[what],
        batch_size=BATCH,
        seed=seed,
        device="cpu",
        precision="fp32",
        checkpoint_every=SAMPLES[what],
        preview_every=SAMPLES[what],
    )


def bits(model: LatentDiffusion, train: Digits, held_out: Digits) -> dict[str, Any]:
    """Without the class: the null condition, which a tenth of the training images had."""

    def batch(images: Loader, rows: range) -> Batch:
        return replace(images.at(rows), fields={})

    fit, held = loader(train), loader(held_out)
    parts = [range(start, start + 60) for start in range(0, MEASURED, 60)]
    return evaluate_likelihood(model, batch(fit, range(256)), [batch(held, rows) for rows in parts])


def judge_samples(
    model: LatentDiffusion, train: Digits, held_out: Digits, guidance: float, seed: int
) -> dict[str, Any]:
    """Draw one digit for each held-out one, of its class."""
    labels = [record.fields["class"] for record in held_out.records]
    seeds = range(1000 * seed, 1000 * seed + len(labels))
    images = model.sample(seeds=seeds, steps=25, guidance=CFG(guidance), batch_size=len(labels), **{"class": labels})
    pixels, _ = model.pixel_format.to_file(images)
    x, y = (each.images.reshape(len(each), -1) for each in (train, held_out))
    drawn = pixels.reshape(len(labels), -1)
    recogniser, learned = SVC(gamma=0.001).fit(x, train.labels), SVC(gamma=0.001).fit(drawn, held_out.labels)
    few = SVC(gamma=0.001).fit(x[: len(labels)], train.labels[: len(labels)])
    real, unseen = (loader(each).at(range(len(each))).images for each in (train, held_out))
    levelled = model.pixel_format.to_model(pixels).permute(0, 3, 1, 2)
    copies = memorisation(levelled, unseen, real).summary()
    nearest = nearest_images(levelled, torch.cat([real, unseen])).indices[:, 0]
    return {
        "svm_accuracy_on_samples": float(recogniser.score(drawn, held_out.labels)),
        "svm_accuracy_on_held_out": float(recogniser.score(y, held_out.labels)),
        "accuracy_on_held_out_of_svm_trained_on_samples": float(learned.score(y, held_out.labels)),
        "accuracy_on_held_out_of_svm_trained_on_as_many_real": float(few.score(y, held_out.labels)),
        "nearest_is_a_training_image": float((nearest < len(real)).float().mean()),
        "training_share_of_all_images": len(real) / (len(real) + len(unseen)),
        "copies": {name: value for name, value in copies.items() if name != "protocol"},
    }


def measure(seed: int, parts: Path) -> None:
    torch.set_num_threads(1)
    train, held_out = split()
    folder, seconds, found = parts / f"seed{seed}", {}, {}
    shutil.rmtree(folder, ignore_errors=True)

    def timed(name: str, function: Any, *arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        result = function(*arguments, **options)
        seconds[name] = round(time.process_time() - start, 1)
        print(name, seconds[name], flush=True)
        return result

    identity = pixel_space(loader(train), folder / "identity")
    pixels = timed("train pixels", train_diffusion, folder / "pixels", identity, train, seed, "pixels")
    autoencoder = timed("train autoencoder", train_autoencoder, folder / "autoencoder", train, seed)
    latents = timed("train latents", train_diffusion, folder / "latents", autoencoder, train, seed, "latents")
    for name, model in (("pixels", pixels), ("latents", latents)):
        found[name] = timed(f"bits {name}", bits, model, train, held_out)
    drawn = {
        f"{name}, guidance {scale:g}": timed(f"samples {name}", judge_samples, model, train, held_out, scale, seed)
        for name, model in (("pixels", pixels), ("latents", latents))
        for scale in GUIDANCE
    }
    result = {"seed": seed, "likelihood": found, "samples": drawn, "cpu_seconds": seconds}
    (parts / f"{seed}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    classes = {"class": [str(i % 10) for i in range(40)]}
    pictures = [model.sample(seeds=range(40), steps=25, guidance=CFG(1.0), **classes) for model in (pixels, latents)]
    torch.save({"pixels": pictures[0], "latents": pictures[1]}, parts / f"{seed}.pt")
    print(json.dumps({name: {m: each[m] for m in ("vlb", "ode")} for name, each in found.items()}, indent=1))


def report(parts: Path) -> None:
    train, held_out = split()
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(parts.glob("[0-9]*.json"))]
    simple = baselines(train, held_out)
    rows = [(name, each["value"], each["standard_error"], None, None) for name, each in simple.items()]
    for name in ("pixels", "latents"):
        for method, label in METHODS.items():
            found = [run["likelihood"][name][method] for run in runs if method in run["likelihood"][name]]
            if found:
                means = [float(np.mean([each[key] for each in found])) for key in PARTS]
                rows.append((f"diffusion in {name}, {label}" if method != "standard_normal" else label, *means))
    machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": 1}
    protocol = runs[0]["likelihood"]
    result = {
        "data": {"train": len(train), "held_out": len(held_out), "levels": LEVELS, "measured": MEASURED},
        "samples_seen": SAMPLES,
        "machine": machine,
        "baselines": simple,
        "protocols": {name: protocol[name]["protocol"] for name in protocol},
        "runs": runs,
    }
    (RESULTS / "digits_likelihood.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (RESULTS / "digits_likelihood.md").write_text(page(rows, runs), encoding="utf-8")
    draw(rows, parts / f"{runs[0]['seed']}.pt", RESULTS / "digits_likelihood.png")
    print(page(rows, runs))


def page(rows: list[Any], runs: list[dict[str, Any]]) -> str:
    seeds = ", ".join(str(run["seed"]) for run in runs)
    lines = [
        "# Bits per pixel of 8x8 digits",
        "",
        f"Made by `benchmarks/digits_likelihood.py`; seeds {seeds}, their means. {FOOT}",
        "",
        "| density | bits per pixel | s.e. over images | reconstruction | latents |",
        "|---|---|---|---|---|",
    ]
    for name, *numbers in rows:
        cells = ["" if number is None else f"{number:.3f}" for number in numbers]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    totals = {name: [run["likelihood"][name]["vlb"]["value"] for run in runs] for name in ("pixels", "latents")}
    spread = "; ".join(f"{name} {', '.join(f'{value:.3f}' for value in values)}" for name, values in totals.items())
    lines += ["", f"Variational bound by seed: {spread}.", "", "| samples of | measure | value |", "|---|---|---|"]
    for name in runs[0]["samples"]:
        for key, label in SAMPLED.items():
            values = [run["samples"][name][key] for run in runs]
            lines.append(f"| {name} | {label} | {', '.join(f'{value:.3f}' for value in values)} |")
        copies = [run["samples"][name]["copies"] for run in runs]
        for key in ("copies", "held_out_copies", "median_distance", "held_out_median_distance"):
            lines.append(f"| {name} | {key.replace('_', ' ')} | {', '.join(f'{each[key]:.3f}' for each in copies)} |")
    stages = {name: [run["cpu_seconds"][name] for run in runs] for name in runs[0]["cpu_seconds"]}
    spent = "; ".join(f"{name} {', '.join(f'{value:.0f}' for value in values)}" for name, values in stages.items())
    return "\n".join([*lines, "", f"CPU seconds on one thread of a shared machine: {spent}.", ""])


def draw(rows: list[Any], samples: Path, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), width_ratios=(3, 2), layout="constrained")
    names, values, errors = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    colours = ["#8a8f98" if row[3] is None else "#2f6f9f" for row in rows]
    left.barh(names, values, xerr=errors, color=colours)
    for place, value in enumerate(values):
        left.text(0.05, place, f"{value:.2f}", va="center", color="white")
    left.invert_yaxis()
    left.set_xlabel("bits per pixel of held-out digits (less is better)")
    pictures = torch.load(samples, weights_only=True)
    both = torch.cat([pictures["pixels"][:40], torch.ones(10, 1, SIZE, SIZE), pictures["latents"][:40]])
    right.imshow(image_grid(both, columns=10)[..., 0], cmap="gray", interpolation="nearest")
    right.set_title("samples for 0 to 9:\nin pixels (above), in latents (below)", fontsize=10)
    right.axis("off")
    figure.savefig(out, dpi=100)


METHODS = {
    "vlb": "variational bound",
    "ode": "probability-flow ODE",
    "standard_normal": "the autoencoder with standard normal latents",
}
PARTS = ("value", "standard_error", "reconstruction", "latent")
SAMPLED = {
    "svm_accuracy_on_samples": "SVM (real digits) recognises samples",
    "svm_accuracy_on_held_out": "the same SVM, held-out digits",
    "accuracy_on_held_out_of_svm_trained_on_samples": "SVM trained on 359 samples, held-out digits",
    "accuracy_on_held_out_of_svm_trained_on_as_many_real": "SVM trained on 359 real digits, held-out digits",
    "nearest_is_a_training_image": "nearest real digit is a training image (0.80 by chance)",
}
FOOT = (
    "1438 digits to train on, 359 held out, of which 180 are measured for diffusion and all for the baselines. Less is "
    "better; all numbers but the first two baselines are upper bounds. Continuous densities are dequantised uniformly, "
    "diffusion by its own noise; the protocols are in the JSON. Without the class."
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--parts", type=Path)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    if arguments.seed is not None:
        measure(arguments.seed, arguments.parts)
    if arguments.report is not None:
        report(arguments.report)
