"""Train a model that draws classes, then draw each of them from the same seeds, with less and more guidance.

    .venv/bin/python examples/class_conditional.py --out runs/class_conditional --seconds 600

It learns the styles of the embedded faces, on the latents of the autoencoder that comes with the package: any field
with a few values is a class. In a folder of your own each sub-folder is one: calotype run photos/ --out runs/photos.
Writes OUT/classes.png, a row for each class, and OUT/guidance.png, a row for each scale of guidance. Stop it and run it
again: it goes on. --debug takes seconds, and shows nothing worth seeing.
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

FIELD, STYLES, SCALES = "style", ("3d", "flat", "noto"), (0.0, 1.0, 2.0, 4.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/class_conditional"))
    parser.add_argument("--seconds", type=float, default=600.0, help="of training")
    parser.add_argument("--debug", action="store_true", help="two steps of training and of drawing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    length = {"samples": 16, "preview_every": 10**6} if arguments.debug else {"minutes": arguments.seconds / 60}
    preset, steps, seeds = (
        (DIFFUSION["ldm-debug"], 2, range(2)) if arguments.debug else (DIFFUSION["modern"], 20, range(8))
    )
    source = open_source("emoji:faces")
    if arguments.debug:
        source = replace(source, train=source.train.subset(range(0, len(source.train), 12)))
    session = start_session()
    batch_size = preset.batch_size_on(session.device.type)
    checkpoint = train_diffusion(
        preset,
        source,
        ct.read_artifact(embedded_model()),
        arguments.out / "latents",
        ct.TrainerConfig(out=str(arguments.out / "run"), batch_size=batch_size, **length),
        session,
        Task(conditions=(FIELD,)),
    )
    model = ct.load(checkpoint)

    def drawn(label: str, scale: float) -> torch.Tensor:
        fields = {FIELD: [label] * len(seeds)}
        return model.sample(seeds=seeds, steps=steps, guidance=ct.CFG(scale), progress=True, **fields)

    rows = {
        "classes": [drawn(label, 2.0) for label in STYLES],
        "guidance": [drawn(STYLES[-1], scale) for scale in SCALES],
    }
    for name, images in rows.items():
        save_png(arguments.out / f"{name}.png", image_grid(torch.cat(images), columns=len(seeds)))
        print(f"picture: {arguments.out / f'{name}.png'}")


if __name__ == "__main__":
    main()
