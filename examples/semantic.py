"""Train a model that draws label maps, then draw maps that it has never seen, also wider ones than those of training.

    .venv/bin/python examples/semantic.py --out runs/semantic --seconds 600

It learns from scenes composed of emoji, with a map of what each pixel is of (`calotype data make-scenes`). For a folder
of your own, with maps named in its metadata.jsonl: calotype run photos/ --out runs/photos --task semantic. Writes
OUT/drawn.png and OUT/wide.png: maps and what was drawn. Stop it and run it again: it goes on. --debug takes seconds,
and shows nothing worth seeing.
"""

import argparse
import logging
from pathlib import Path

import numpy as np

import calotype as ct
from calotype.chain.source import open_source
from calotype.chain.stages import train_autoencoder, train_diffusion
from calotype.data.scenes import compose_scene, write_scenes
from calotype.presets import AUTOENCODERS, DIFFUSION
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.utils.box_picture import enlarged
from calotype.utils.images import save_png
from calotype.utils.label_maps import coloured

MAPS, SEEDS = 4, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/semantic"))
    parser.add_argument("--seconds", type=float, default=600.0, help="of training, a quarter for the autoencoder")
    parser.add_argument("--debug", action="store_true", help="two steps of training and of drawing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    model = ct.load(train(arguments))
    side, steps = model.first_stage.size, 2 if arguments.debug else 20
    for name, size, seeds, axis in (("drawn", side, SEEDS, 1), ("wide", (side, 3 * side), 2, 0)):
        rows = []
        for number in range(MAPS):
            labels = compose_scene("example", number, size=size).labels
            images = ct.semantic_synthesis(
                model, labels, seeds=range(seeds), steps=steps, guidance=ct.CFG(3.0), progress=True
            )
            drawn, _ = model.pixel_format.to_file(images)
            rows.append(np.concatenate([enlarged(each) for each in (coloured(labels), *drawn)], axis=axis))
        save_png(arguments.out / f"{name}.png", np.concatenate(rows, axis=1 - axis))
        print(f"picture: {arguments.out / f'{name}.png'}")


def train(arguments: argparse.Namespace) -> Path:
    """Compose scenes, and train an autoencoder on them, then a model on its latents."""
    out, debug = arguments.out, arguments.debug
    if not (out / "scenes").exists():
        write_scenes(out / "scenes", 32 if debug else 4000, size=32 if debug else 64)
    source = open_source(str(out / "scenes"))

    def settings(stage: str, share: float, batch_size: int) -> ct.TrainerConfig:
        length = {"samples": 16, "preview_every": 10**6} if debug else {"minutes": share * arguments.seconds / 60}
        return ct.TrainerConfig(out=str(out / stage), batch_size=batch_size, **length)

    first = AUTOENCODERS["kl-f8-debug" if debug else "kl-f4-small"]
    autoencoder = train_autoencoder(
        first, source, [32 if debug else 64], settings("autoencoder", 0.25, first.batch_size)
    )
    second = DIFFUSION["ldm-debug" if debug else "modern"]
    session = start_session()
    return train_diffusion(
        second,
        source,
        ct.read_artifact(autoencoder),
        out / "latents",
        settings("model", 0.75, second.batch_size_on(session.device.type)),
        session,
        Task(name="semantic"),
    )


if __name__ == "__main__":
    main()
