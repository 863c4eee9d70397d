"""Train a model that fills in what a mask leaves open, then let it: holes of several kinds, and beyond the borders.

    .venv/bin/python examples/inpaint.py --out runs/inpaint --seconds 600

It learns from the embedded faces, or from a folder of your own (--data), and fills in pictures that it has never seen.
Writes OUT/inpainted.png and OUT/outpainted.png. Stop it and run it again: it goes on. --debug takes seconds, and shows
nothing worth seeing.
"""

import argparse
import logging
from pathlib import Path

import torch

import calotype as ct
from calotype.chain.run import run_chain
from calotype.chain.source import open_source
from calotype.presets.tasks import Task
from calotype.utils.images import image_grid, save_png
from calotype.utils.seeds import generator

PICTURES, SEEDS = 6, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="emoji:faces", help="a folder of images, or emoji, emoji:faces ...")
    parser.add_argument("--out", type=Path, default=Path("runs/inpaint"))
    parser.add_argument("--seconds", type=float, default=600.0, help="of training and report together")
    parser.add_argument("--debug", action="store_true", help="two seconds, 32 pixels, two steps")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    seconds, steps = (2.0, 2) if arguments.debug else (arguments.seconds, 20)

    size = 32 if arguments.debug else None
    run_chain(arguments.data, arguments.out / "run", minutes=seconds / 60, size=size, task=Task(name="inpaint"))
    model = ct.load(arguments.out / "run")
    loader = ct.Loader(open_source(arguments.data).held_out, ct.Transform(size=model.first_stage.size))
    batch = loader.at(range(PICTURES))
    fields = model.conditioner.known(batch.fields)

    masks = ct.RandomMasks(nothing=0.0)
    known = torch.stack([masks.draw(*batch.images.shape[2:], generator("example", row)) for row in range(PICTURES)])
    fill(model, batch.images, known, fields, steps, arguments.out / "inpainted.png")

    wider, known = ct.outpaint(batch.images, left=batch.images.shape[3] // 4, right=batch.images.shape[3] // 4)
    fill(model, wider, known, fields, steps, arguments.out / "outpainted.png")


def fill(
    model: ct.LatentDiffusion, images: torch.Tensor, known: torch.Tensor, fields: dict, steps: int, path: Path
) -> None:
    """Draw what is not known once per seed; write a row for each picture: what is known of it, and the results."""
    results = [
        ct.inpaint(model, images, known, seeds=[seed] * len(images), steps=steps, progress=True, **fields)
        for seed in range(SEEDS)
    ]
    rows = torch.stack([torch.where(known == 1, images, torch.zeros(())), *results], dim=1)
    save_png(path, image_grid(rows.flatten(0, 1), columns=1 + SEEDS))
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
