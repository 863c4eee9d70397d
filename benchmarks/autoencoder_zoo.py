"""Autoencoders of f in {2, 4, 8} with KL, VQ and FSQ, and diffusers' AutoencoderKL, in equal parameters and CPU time.

    .venv/bin/python scripts/build_tiles.py --out runs/tiles /usr/share/backgrounds /usr/share/wallpapers
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/autoencoder_zoo.py runs/tiles

All train on one mixture, 2048 tiles of photographs (split by source image), as many emoji (split by concept), at 32 px,
and are measured on 256 held-out tiles and on the emoji of unseen concepts. Latents are as wide as in Table 8 of
arXiv:2112.10752: 2, 3 and 4 channels. *Ours* is the recipe of kl-f4-small, vq-f4-small and fsq-f4-small, warm-up
800 images, discriminator from three quarters of the run on. *diffusers* is trained as train_autoencoderkl.py does by
default: squares summed over an image, 1e-6 times the KL, AdamW, gradients clipped at 1, no discriminator before step
50001, no moving average; its perceptual term is left out, for the script takes it without a gradient. Its learning rate
is raised to 1e-3 (the script's own, 4.5e-6, is a row of its own). Both sides run in bfloat16 where the CPU has it. The
budget is CPU seconds of one thread, turned into samples by timing all rows in turn. Finished runs are not repeated;
``--only`` does a part. Writes docs/results/autoencoder_zoo.json, .md and .png.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotype.artifact import read_artifact, versions
from calotype.data.emoji import emoji_source
from calotype.data.folder import scan_folder
from calotype.data.image_set import ImageSet
from calotype.data.loader import Loader
from calotype.data.transforms import Transform
from calotype.evaluation.autoencoder import AutoencoderEvaluation, evaluate_autoencoder
from calotype.evaluation.instruments import load_instruments
from calotype.models.autoencoder import Autoencoder
from calotype.models.distributions import DiagonalGaussianDistribution
from calotype.models.quantisers import FSQConfig, VectorQuantizer2Config
from calotype.models.vq_model import VQModelConfig
from calotype.pipeline import load_autoencoder
from calotype.presets import AUTOENCODERS
from calotype.training.autoencoder_recipe import AutoencoderRecipe, AutoencoderRecipeConfig
from calotype.training.draws import Draws
from calotype.training.session import Session, start_session
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils.images import image_grid, save_png

SIZE, BATCH, TRAIN, HELD_OUT, SHOWN, WARM_UP = 32, 16, 2_048, 256, 12, 800
FACTORS, KINDS = (2, 4, 8), ("kl", "vq", "fsq", "diffusers")
LATENT_CHANNELS = {2: 2, 4: 3, 8: 4}
CODES = {2: 2048, 4: 4096, 8: 4096}
LEVELS = {2: (45, 45), 4: (16, 16, 16), 8: (8, 8, 8, 8)}
SHAPES: dict[int, dict[str, Any]] = {
    2: {"channels": 72, "space_to_depth": 2, "channel_multipliers": (1,)},
    4: {"channels": 72, "space_to_depth": 4, "channel_multipliers": (1,)},
    8: {"channels": 56, "space_to_depth": 4, "channel_multipliers": (1, 1)},
}
PEER_CHANNELS = {2: (56, 56), 4: (48, 48, 48), 8: (44, 44, 44, 44)}
PEER_RATE, PEER_OWN_RATE = 1e-3, 4.5e-6
OWN_RATE_ROW = "diffusers-own-rate-f4"
ROWS = [*(f"{kind}-f{factor}" for factor in FACTORS for kind in KINDS), OWN_RATE_ROW]
PAPER = {  # Table 8 of arXiv:2112.10752: PSNR of (KL, VQ with the larger codebook)
    2: (32.47, 30.85),
    4: (27.53, 27.43),
    8: (24.19, 23.07),
}
STYLES = {"kl": ("#2563a8", "o"), "vq": ("#3f9142", "s"), "fsq": ("#8457a8", "^"), "diffusers": ("#d1622b", "D")}
TIMED_STEPS, LATE = 10, 2**60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path)
    parser.add_argument("--seconds", type=float, default=45.0, help="CPU seconds of training for each row")
    parser.add_argument("--runs", type=Path, default=Path("runs/autoencoder_zoo"))
    parser.add_argument("--only", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--results", type=Path, default=Path("docs/results/autoencoder_zoo"))
    arguments = parser.parse_args()
    data, session = open_data(arguments.tiles), start_session("cpu")
    timed = arguments.runs / "seconds_per_image.json"
    if not timed.exists():
        timed.parent.mkdir(parents=True, exist_ok=True)
        timed.write_text(json.dumps(seconds_per_image(data, session), indent=1))
    costs = json.loads(timed.read_text())
    for name in arguments.only:
        out, samples = arguments.runs / name, round(arguments.seconds / costs[name] / BATCH) * BATCH
        if not (out / "result.json").exists():
            train = train_peer if "diffusers" in name else train_ours
            model, seconds = train(name, data, out, samples)
            found = {"samples": samples, "cpu_seconds": round(seconds, 1), **examine(model, data, out)}
            (out / "result.json").write_text(json.dumps(found, indent=1))
        print(name, (out / "result.json").read_text(), flush=True)
    done = {name: arguments.runs / name / "result.json" for name in ROWS}
    if all(path.exists() for path in done.values()):
        found = {name: json.loads(path.read_text()) for name, path in done.items()}
        write(found, arguments.results, arguments.seconds, session)
        draw(found, arguments.results.with_suffix(".png"))


@dataclass(frozen=True)
class Data:
    train: Loader
    held_out: dict[str, ImageSet]


class Union(ImageSet):
    """Several sets as one."""

    def __init__(self, sets: Sequence[ImageSet]) -> None:
        self.sets, self.source, self.pixel_format = sets, "zoo", sets[0].pixel_format
        self.records = tuple(record for each in sets for record in each.records)

    def pixels(self, index: int) -> np.ndarray:
        for each in self.sets:
            if index < len(each):
                return each.pixels(index)
            index -= len(each)
        raise IndexError(index)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        return "+".join(each.fingerprint for each in self.sets)


def open_data(tiles: Path) -> Data:
    emoji = emoji_source("emoji")
    photographs = {name: scan_folder(tiles / name).images for name in ("train", "held_out")}
    train = Union([evenly(photographs["train"], TRAIN), evenly(emoji.train, TRAIN)])
    held_out = {"photographs": evenly(photographs["held_out"], HELD_OUT), "emoji": emoji.held_out_concepts}
    return Data(Loader(train, Transform(size=SIZE)), held_out)


def evenly(images: ImageSet, count: int) -> ImageSet:
    return images.subset(range(0, len(images), max(1, len(images) // count))[:count])


def recipe_config(name: str, data: Data) -> AutoencoderRecipeConfig:
    kind, factor = name.split("-")[0], int(name[-1])
    config = AUTOENCODERS[f"{kind}-f4-small"].recipe(data.train.images.pixel_format, SIZE)
    changes = {**SHAPES[factor], "latent_channels": LATENT_CHANNELS[factor]}
    if isinstance(config.autoencoder, VQModelConfig):
        vq, fsq = VectorQuantizer2Config(codes=CODES[factor]), FSQConfig(levels=LEVELS[factor])
        changes["quantiser"] = vq if kind == "vq" else fsq
    optimiser = replace(config.optimiser, warmup_samples=WARM_UP)
    return replace(config, autoencoder=replace(config.autoencoder, **changes), optimiser=optimiser)


class Peer(Autoencoder):
    """diffusers' AutoencoderKL by our interface, so that both are judged by the same code."""

    def __init__(self, factor: int) -> None:
        from diffusers import AutoencoderKL

        super().__init__(LATENT_CHANNELS[factor])
        channels = PEER_CHANNELS[factor]
        self.downsampling = factor
        self.net = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            block_out_channels=channels,
            layers_per_block=1,
            latent_channels=LATENT_CHANNELS[factor],
            norm_num_groups=4,
            sample_size=SIZE,
        )

    @property
    def factor(self) -> int:
        return self.downsampling

    def encode(self, images: Tensor) -> DiagonalGaussianDistribution:
        return DiagonalGaussianDistribution(self.net.encode(images).latent_dist.parameters)

    def decode(self, z: Tensor) -> Tensor:
        return self.net.decode(z).sample


class PeerTraining:
    """The step of diffusers' train_autoencoderkl.py before its discriminator, which its default run never reaches."""

    def __init__(self, name: str, session: Session) -> None:
        torch.manual_seed(0)
        self.model, self.session = Peer(int(name[-1])), session
        rate = PEER_OWN_RATE if name == OWN_RATE_ROW else PEER_RATE
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=1e-2)

    def step(self, images: Tensor) -> None:
        with self.session.autocast():
            posterior = self.model.net.encode(images).latent_dist
            reconstructions = self.model.net.decode(posterior.sample()).sample
        squares = (reconstructions.float() - images).square().sum() / len(images)
        loss = squares + 1e-6 * posterior.kl().sum() / len(images)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()


def seconds_per_image(data: Data, session: Session) -> dict[str, float]:
    """CPU seconds of training per image, the rows taking turns; the median of their steps."""
    images = [data.train.batch(i * BATCH, BATCH) for i in range(TIMED_STEPS + 2)]
    peers = {name: PeerTraining(name, session) for name in ROWS if "diffusers" in name}
    ours = {
        name: (config := recipe_config(name, data), AutoencoderRecipe(config, data.train))
        for name in ROWS
        if name not in peers
    }
    for _, recipe in ours.values():
        recipe.start(session, BATCH)
        recipe.begin(LATE)
    times: dict[str, list[float]] = {name: [] for name in ROWS}
    for batch in images:
        for name, peer in peers.items():
            began = time.process_time()
            peer.step(batch.images)
            times[name].append(time.process_time() - began)
        for name, (config, recipe) in ours.items():
            spent = 0.0
            for seen, share in ((0, config.disc_from), (LATE, 1 - config.disc_from)):
                began = time.process_time()
                recipe.step(batch, Draws(0, seen, BATCH, slice(0, BATCH)))
                spent += share * (time.process_time() - began)
            times[name].append(spent)
    return {name: statistics.median(each[2:]) / BATCH for name, each in times.items()}


def train_ours(name: str, data: Data, out: Path, samples: int) -> tuple[Autoencoder, float]:
    began = time.process_time()
    torch.manual_seed(0)
    recipe = AutoencoderRecipe(recipe_config(name, data), data.train)
    seldom = {"validate_every": samples, "preview_every": samples, "checkpoint_every": samples}
    config = TrainerConfig(out=str(out), samples=samples, batch_size=BATCH, device="cpu", **seldom)
    Trainer(config).fit(recipe, data.train)
    return load_autoencoder(read_artifact(out)).model, time.process_time() - began


def train_peer(name: str, data: Data, out: Path, samples: int) -> tuple[Autoencoder, float]:
    out.mkdir(parents=True, exist_ok=True)
    training, began = PeerTraining(name, start_session("cpu")), time.process_time()
    for start in range(0, samples, BATCH):
        batch = data.train.batch(start, BATCH)
        data.train.prefetch(start + BATCH, BATCH)
        training.step(batch.images)
    return training.model.eval(), time.process_time() - began


def examine(model: Autoencoder, data: Data, out: Path) -> dict[str, Any]:
    """Measure on both held-out sets and keep a picture of each."""
    instruments = load_instruments(3, torch.device("cpu"))
    found: dict[str, Any] = {"parameters": sum(each.numel() for each in model.parameters())}
    for name, images in data.held_out.items():
        evaluation = evaluate_autoencoder(model, batches(images), instruments)
        found[name] = summary(evaluation)
        pairs = evaluation.shown[:SHOWN]
        rows = [torch.stack([getattr(pair, part) for pair in pairs]) for part in ("original", "reconstruction")]
        save_png(out / f"{name}.png", image_grid(torch.cat(rows), columns=len(pairs)))
    return found


def batches(images: ImageSet) -> Iterator[tuple[list[str], Tensor]]:
    for batch in Loader(images, Transform(size=SIZE)).all(64):
        yield [images.records[int(index)].name for index in batch.indices], batch.images


def summary(evaluation: AutoencoderEvaluation) -> dict[str, float]:
    metrics = evaluation.metrics
    found = {name: round(metrics["reconstruction"][name], 4) for name in ("psnr", "ssim")}
    found["psnr_se"] = round(float(evaluation.values["psnr"].std() / len(evaluation.values["psnr"]) ** 0.5), 4)
    found["perceptual"] = round(metrics["perceptual"]["value"], 5)
    distances = next(iter(metrics["distances"].values()))
    found["rkid"] = round(distances["rkid"]["value"], 5)
    found["rkid_se"] = round(distances["rkid"]["standard_error"], 5)
    codes = metrics.get("codebook", {})
    return found | {name: codes[name] for name in ("used", "perplexity", "codes") if name in codes}


def write(found: dict[str, Any], path: Path, seconds: float, session: Session) -> None:
    about = {
        "what": "reconstruction of held-out images after equal CPU time, one seed",
        "cpu_seconds": seconds,
        "batch": BATCH,
        "size": SIZE,
        "precision": "bf16 autocast" if session.bf16 else "float32",
        "latent_channels": LATENT_CHANNELS,
        "codes": {"vq": CODES, "fsq": LEVELS},
        "learning_rates": {"diffusers": PEER_RATE, OWN_RATE_ROW: PEER_OWN_RATE},
        "distance": "rKID-EffLite0, as calotype evaluate has it; not comparable with FID or KID on Inception features",
        **versions(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps({"about": about, "rows": found}, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join(page(found, seconds)) + "\n")


def page(found: dict[str, Any], seconds: float) -> Iterator[str]:
    yield "# Autoencoders at equal parameters and CPU time"
    yield ""
    yield (
        f"Made by `benchmarks/autoencoder_zoo.py`, whose head has the protocol: {seconds:g} CPU seconds of one thread "
        f"for each, {SIZE} px, {HELD_OUT} held-out tiles of photographs, the emoji of unseen concepts, one seed. All "
        "numbers are in [autoencoder_zoo.json](autoencoder_zoo.json). Distances are on EfficientNet-Lite0 features "
        "(rKID-EffLite0)."
    )
    yield ""
    columns = "PSNR | SSIM | perceptual | rKID"
    yield f"| row | parameters | images seen | photographs: {columns} | emoji: {columns} | codes used |"
    yield "|" + "---|" * 12
    for name, row in found.items():
        cells = [name, f"{row['parameters'] / 1e6:.2f} M", f"{row['samples']}"]
        for images in ("photographs", "emoji"):
            each = row[images]
            cells += [f"{each['psnr']:.2f} ({each['psnr_se']:.2f})", f"{each['ssim']:.3f}"]
            cells += [f"{each['perceptual']:.4f}", f"{each['rkid']:.3f} ({each['rkid_se']:.3f})"]
        codes = row["photographs"]
        cells.append(f"{codes['used']} of {codes['codes']}" if "used" in codes else "")
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "![PSNR by factor](autoencoder_zoo.png)"
    yield ""
    yield "## Does the order of the paper's Table 8 hold?"
    yield ""
    yield (
        "Read it with the images seen: a step at f2 costs over twice one at f4, and after so short a training what "
        "counts most is how many there were."
    )
    yield ""
    for kind in KINDS:
        heights = [found[f"{kind}-f{factor}"]["photographs"]["psnr"] for factor in FACTORS]
        falls = "yes" if heights == sorted(heights, reverse=True) else "no"
        yield f"- {kind}: PSNR on photographs falls with f: {falls} ({', '.join(f'{each:.2f}' for each in heights)})."
    for factor in FACTORS:
        kl, vq = (found[f"{kind}-f{factor}"]["photographs"]["psnr"] for kind in ("kl", "vq"))
        paper = PAPER[factor]
        holds = "yes" if kl >= vq else "no"
        yield f"- f{factor}: KL at least VQ: {holds} ({kl:.2f}, {vq:.2f}; the paper: {paper[0]:.2f}, {paper[1]:.2f})."


def draw(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for axis, images in zip(axes, ("photographs", "emoji"), strict=True):
        for kind, (colour, marker) in STYLES.items():
            rows = [found[f"{kind}-f{factor}"][images] for factor in FACTORS]
            heights, errors = [row["psnr"] for row in rows], [row["psnr_se"] for row in rows]
            label = "diffusers AutoencoderKL" if kind == "diffusers" else f"calotype {kind.upper()}"
            axis.errorbar(FACTORS, heights, yerr=errors, color=colour, marker=marker, label=label, capsize=2)
        axis.set_xscale("log", base=2)
        axis.set_xticks(FACTORS, [f"f{factor}" for factor in FACTORS])
        axis.set_title(f"held-out {images}", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("PSNR (dB)")
    axes[1].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
