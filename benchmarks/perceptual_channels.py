"""A perceptual loss for images that are not colours: what may a network of colours see of their channels?

    .venv/bin/python scripts/build_formats.py --out runs/formats
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/perceptual_channels.py runs/formats

Trains kl-f4-small at half its width on four channels (colours and near infrared) and on two, without a perceptual loss
and with three views of the channels, drawn at every step: *mixtures* (three random directions at right angles),
*triples* (three channels at random as red, green and blue), *grey* (one channel at random as grey). All see the same
images in the same number. Judged on held-out images by PSNR, SSIM, and SqueezeNet's distance in views of every sort:
each channel as grey, fixed random triples and fixed random mixtures. Writes docs/results/perceptual_channels.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.artifact import versions
from calotype.data.folder import scan_folder
from calotype.data.loader import Loader
from calotype.data.splits import split
from calotype.data.transforms import Transform
from calotype.evaluation.reconstruction import psnr, ssim
from calotype.losses import NoPerceptualConfig, SqueezeNetPerceptualConfig, projected
from calotype.losses.projected import draw_projection
from calotype.pipeline import load
from calotype.presets import AUTOENCODERS
from calotype.training.autoencoder_recipe import AutoencoderRecipe
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils.seeds import generator

SETS, SIZE, BATCH, CHANNELS = ("infrared_tiff", "pair_npy"), 64, 16, 48
Draw = Callable[[int, torch.Generator], Tensor]


def draw_triple(channels: int, random: torch.Generator) -> Tensor:
    """Draw three different channels, or all and some of them twice."""
    order = torch.cat([torch.randperm(channels, generator=random) for _ in range(2)])[:3]
    return torch.eye(channels)[order]


def draw_grey(channels: int, random: torch.Generator) -> Tensor:
    """Draw one channel, as grey."""
    return torch.eye(channels)[torch.randint(channels, (1,), generator=random)].expand(3, -1)


VIEWS: dict[str, Draw | None] = {"none": None, "mixtures": draw_projection, "triples": draw_triple, "grey": draw_grey}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=6_400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/perceptual_channels"))
    parser.add_argument("--results", type=Path, default=Path("docs/results/perceptual_channels.json"))
    arguments = parser.parse_args()
    rows = []
    for name in SETS:
        train, held_out = split(scan_folder(arguments.folder / name).images, minimum=48)
        for seed in arguments.seeds:
            for view, draw in VIEWS.items():
                images = Loader(train, Transform(size=SIZE), seed), Loader(held_out, Transform(size=SIZE), seed)
                run = arguments.runs / f"{name}-{view}-{seed}"
                started = time.process_time()
                checkpoint = fit(draw, *images, run, seed, arguments.samples)
                spent = time.process_time() - started
                rows.append({"set": name, "view": view, "seed": seed, **measure(checkpoint, images[1])})
                print(f"{spent:.0f} s", json.dumps(rows[-1]), flush=True)
    found = {
        "protocol": (__doc__ or "").split("\n\n")[2].replace("\n", " "),
        "samples": arguments.samples,
        "size": SIZE,
        "batch": BATCH,
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    arguments.results.write_text(json.dumps(found, indent=1) + "\n")


def fit(draw: Draw | None, train: Loader, held_out: Loader, run: Path, seed: int, samples: int) -> Path:
    """Train with what ``draw`` lets the network see of the channels (None: without it); return the checkpoint."""
    config = AUTOENCODERS["kl-f4-small"].recipe(train.images.pixel_format, SIZE)
    config = replace(config, autoencoder=replace(config.autoencoder, channels=CHANNELS))
    if draw is None:
        config = replace(config, loss=replace(config.loss, perceptual=NoPerceptualConfig(), perceptual_weight=0.0))
    projected.draw_projection = draw or draw_projection
    torch.manual_seed(seed)
    settings = TrainerConfig(out=str(run), samples=samples, batch_size=BATCH, seed=seed, device="cpu")
    return Trainer(settings).fit(AutoencoderRecipe(config, train, held_out), train)


@torch.no_grad()
def measure(checkpoint: Path, held_out: Loader) -> dict[str, Any]:
    """Return what is measured on the held-out images: means over images."""
    images = held_out.at(range(len(held_out))).images
    reconstructions: Tensor = load(checkpoint).reconstruct(images)  # type: ignore[union-attr]
    network, channels = SqueezeNetPerceptualConfig().build(), images.shape[1]

    def distance(views: list[Tensor]) -> float:
        pairs = [[torch.einsum("dc,bchw->bdhw", view, each) for each in (images, reconstructions)] for view in views]
        return float(torch.stack([network(*pair).mean() for pair in pairs]).mean())

    return {
        "psnr": float(psnr(images, reconstructions).mean()),
        "ssim": float(ssim(images, reconstructions).mean()),
        "grey": distance(list(torch.eye(channels)[:, None].expand(-1, 3, -1))),
        "triples": distance([draw_triple(channels, generator("judge", index)) for index in range(8)]),
        "mixtures": distance([draw_projection(channels, generator("judge", index)) for index in range(8)]),
    }


if __name__ == "__main__":
    main()
