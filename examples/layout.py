"""Train a model that draws objects where they are asked to be, then ask for layouts that it has never seen.

    .venv/bin/python examples/layout.py --out runs/layout --seconds 600

It learns from scenes composed of emoji, with the boxes of their objects (`calotype data make-scenes`). For a folder of
your own, with boxes in its metadata.jsonl: calotype run photos/ --out runs/photos --task layout. Writes OUT/drawn.png:
a row for each layout, its boxes and what was drawn. Stop it and run it again: it goes on. --debug takes seconds, and
shows nothing worth seeing.
"""

import argparse
import logging
from pathlib import Path

import numpy as np

import calotype as ct
from calotype.chain.source import open_source
from calotype.chain.stages import train_autoencoder, train_diffusion
from calotype.data.scenes import write_scenes
from calotype.presets import AUTOENCODERS, DIFFUSION
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.utils.box_picture import draw_boxes, enlarged
from calotype.utils.images import save_png

DOG_LEFT = {"dog": (0.05, 0.5, 0.4, 0.4), "house": (0.5, 0.15, 0.45, 0.5)}
DOG_RIGHT = {"house": (0.05, 0.15, 0.45, 0.5), "dog": (0.55, 0.5, 0.4, 0.4)}
ROW = {"sunflower": (0.02, 0.3, 0.3, 0.45), "penguin": (0.36, 0.3, 0.3, 0.45), "red apple": (0.7, 0.4, 0.28, 0.3)}
LARGE_AND_SMALL = {"elephant": (0.4, 0.4, 0.55, 0.45), "frog": (0.05, 0.05, 0.27, 0.25)}
SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/layout"))
    parser.add_argument("--seconds", type=float, default=600.0, help="of training, a quarter for the autoencoder")
    parser.add_argument("--debug", action="store_true", help="two steps of training and of drawing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    model, rows = ct.load(train(arguments)), []
    for boxes in (DOG_LEFT, DOG_RIGHT, ROW, LARGE_AND_SMALL):
        objects = [ct.LayoutObject(name, ct.Box(*box)) for name, box in boxes.items()]
        images = ct.layout_to_image(
            model, objects, seeds=range(SEEDS), steps=2 if arguments.debug else 20, guidance=ct.CFG(3.0), progress=True
        )
        drawn, _ = model.pixel_format.to_file(images)
        asked = draw_boxes(np.full_like(drawn[0], 255), objects)
        rows.append(np.concatenate([asked, *map(enlarged, drawn)], axis=1))
    save_png(arguments.out / "drawn.png", np.concatenate(rows))
    print(f"picture: {arguments.out / 'drawn.png'}")


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
        Task(name="layout"),
    )


if __name__ == "__main__":
    main()
