"""Train a model that draws images like a given one, then show it pictures that it has never seen.

    .venv/bin/python examples/variations.py --out runs/variations --seconds 600

A frozen EfficientNet-Lite0 looks at each training image, and the model learns to draw the image from what that saw. It
learns from the embedded faces, on the latents of the autoencoder that comes with the package. For a folder of your own:
calotype run photos/ --out runs/photos --task variations. Writes OUT/varied.png: each picture, then variations of it.
Stop it and run it again: it goes on. --debug takes seconds, and shows nothing worth seeing.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

import calotype as ct
from calotype.chain.source import open_source
from calotype.chain.stages import train_diffusion
from calotype.presets import DIFFUSION
from calotype.presets.embedded import embedded_model
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.utils.images import image_grid, save_png

PICTURES, SEEDS = 5, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/variations"))
    parser.add_argument("--seconds", type=float, default=600.0, help="of training")
    parser.add_argument("--debug", action="store_true", help="a few images, two steps of training and of drawing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    length = {"samples": 16, "preview_every": 10**6} if arguments.debug else {"minutes": arguments.seconds / 60}
    preset, steps = DIFFUSION["ldm-debug" if arguments.debug else "modern"], 2 if arguments.debug else 20
    source = open_source("emoji:faces")
    if arguments.debug:
        source = replace(source, train=source.train.subset(range(0, len(source.train), 16)))
    session = start_session()
    batch_size = preset.batch_size_on(session.device.type)
    checkpoint = train_diffusion(
        preset,
        source,
        ct.read_artifact(embedded_model()),
        arguments.out / "latents",
        ct.TrainerConfig(out=str(arguments.out / "run"), batch_size=batch_size, **length),
        session,
        Task(name="variations"),
    )
    model = ct.load(checkpoint)
    held_out = ct.Loader(source.held_out, ct.Transform(size=model.first_stage.size))
    pictures = held_out.at(range(0, len(held_out), max(1, len(held_out) // PICTURES))[:PICTURES]).images
    rows = []
    for picture in pictures:
        copies = picture.expand(SEEDS, -1, -1, -1)
        varied = ct.variations(model, copies, seeds=range(SEEDS), steps=steps, guidance=ct.CFG(2.0), progress=True)
        rows += [picture[None], varied]
    save_png(arguments.out / "varied.png", image_grid(torch.cat(rows), columns=1 + SEEDS))
    print(f"picture: {arguments.out / 'varied.png'}")


if __name__ == "__main__":
    main()
