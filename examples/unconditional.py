"""Train an autoencoder and a diffusion model on a folder that holds images and nothing else, then draw.

    .venv/bin/python examples/unconditional.py --data photos/ --out runs/unconditional --seconds 600

Without --data the folder is made of the embedded faces. Writes OUT/drawn.png, samples from eight seeds in a row, and
OUT/way.png, the way from noise to three of them: what the model expects in the end, after each quarter of the steps.
Stop it and run it again: it goes on. --debug takes seconds, and shows nothing worth seeing.
"""

import argparse
import logging
from pathlib import Path

import torch

import calotype as ct
from calotype.chain.source import open_source
from calotype.chain.stages import train_autoencoder, train_diffusion
from calotype.presets import AUTOENCODERS, DIFFUSION
from calotype.training.session import start_session
from calotype.utils.images import image_grid, save_png

SEEDS, COLUMNS, WAYS = 32, 8, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of images; the embedded faces by default")
    parser.add_argument("--out", type=Path, default=Path("runs/unconditional"))
    parser.add_argument("--seconds", type=float, default=600.0, help="of training, a quarter for the autoencoder")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side")
    parser.add_argument("--debug", action="store_true", help="two steps of training, four of drawing, 32 pixels")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    model = ct.load(train(arguments.data or faces(arguments.out / "faces"), arguments))
    steps = 4 if arguments.debug else 20
    images = model.sample(seeds=range(SEEDS), steps=steps, progress=True)
    save_png(arguments.out / "drawn.png", image_grid(images, columns=COLUMNS))

    # the same loop as a generator: it can be watched, changed and left anywhere
    denoise, noise, grid = model.denoise(WAYS), model.noise(range(WAYS)), model.schedule.grid(steps)
    states = list(ct.solve(denoise, noise, grid, ct.DPMSolver(), noise=ct.NoiseSource(range(WAYS))))
    expected = [model.decode(state.x0) for state in states[:: steps // 4]]
    way = torch.stack([model.decode(noise), *expected, model.decode(states[-1].x)], dim=1).flatten(0, 1)
    save_png(arguments.out / "way.png", image_grid(way, columns=len(expected) + 2))
    print(f"pictures: {arguments.out / 'drawn.png'}, {arguments.out / 'way.png'}")


def train(folder: Path, arguments: argparse.Namespace) -> Path:
    """Train an autoencoder on the images, then a model on its latents."""
    debug, source = arguments.debug, open_source(str(folder))

    def settings(stage: str, share: float, batch_size: int) -> ct.TrainerConfig:
        length = {"samples": 16, "preview_every": 10**6} if debug else {"minutes": share * arguments.seconds / 60}
        return ct.TrainerConfig(out=str(arguments.out / stage), batch_size=batch_size, **length)

    first = AUTOENCODERS["kl-f8-debug" if debug else "kl-f4-small"]
    autoencoder = train_autoencoder(
        first, source, [32 if debug else arguments.size], settings("autoencoder", 0.25, first.batch_size)
    )
    second = DIFFUSION["ldm-debug" if debug else "modern"]
    session = start_session()
    return train_diffusion(
        second,
        source,
        ct.read_artifact(autoencoder),
        arguments.out / "latents",
        settings("model", 0.75, second.batch_size_on(session.device.type)),
        session,
    )


def faces(folder: Path) -> Path:
    """Write the embedded faces as plain files, once."""
    images = open_source("emoji:faces").train
    if not folder.exists():
        for index, record in enumerate(images.records):
            save_png(folder / f"{record.name.replace('/', '-')}.png", images.pixels(index))
    return folder


if __name__ == "__main__":
    main()
