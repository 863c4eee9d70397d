"""Train a model that draws captions, read by words, by byte pairs or by a frozen encoder; then ask it for new ones.

    .venv/bin/python examples/text_to_image.py --out runs/text_to_image --text minilm --seconds 600

It learns from the captions of the embedded faces, on the latents of the autoencoder that comes with the package. For a
folder of your own: calotype run photos/ --out runs/photos --text minilm. Writes OUT/drawn.png: a row for each caption.
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

CAPTIONS = ("crying face, 3d style", "an angry face, flat style", "a sad cat, noto style", "a laughing robot, 3d style")
SEEDS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/text_to_image"))
    parser.add_argument("--text", default="minilm", help="words, bpe, minilm, or the folder of a frozen text encoder")
    parser.add_argument("--seconds", type=float, default=600.0, help="of training")
    parser.add_argument("--debug", action="store_true", help="a few images, two steps of training and of drawing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    length = {"samples": 16, "preview_every": 10**6} if arguments.debug else {"minutes": arguments.seconds / 60}
    preset, steps = DIFFUSION["ldm-debug" if arguments.debug else "modern"], 2 if arguments.debug else 20
    run = arguments.out / arguments.text.replace("/", "-")
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
        ct.TrainerConfig(out=str(run), batch_size=batch_size, **length),
        session,
        Task(text=arguments.text),
    )
    model = ct.load(checkpoint)
    rows = [
        model.sample(caption=[caption] * SEEDS, seeds=range(SEEDS), steps=steps, guidance=ct.CFG(3.0), progress=True)
        for caption in CAPTIONS
    ]
    save_png(arguments.out / "drawn.png", image_grid(torch.cat(rows), columns=SEEDS))
    print(f"picture: {arguments.out / 'drawn.png'} ({'; '.join(CAPTIONS)})")


if __name__ == "__main__":
    main()
