"""Train a model that draws with the nearest images of a data base at hand, then swap the data base.

    .venv/bin/python examples/retrieval.py --out runs/retrieval --seconds 600

In training the neighbours of an image are told by their vectors; afterwards they are looked for in words, in all images
or in those of one style. It learns from the embedded faces, on the latents of the autoencoder that comes with the
package. For a folder of your own: calotype run photos/ --out runs/photos --task retrieve. Writes OUT/retrieved.png: for
each question and data base the neighbours that were found, then what was drawn. Stop it and run it again: it goes on.
--debug takes seconds, and shows nothing worth seeing.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

import calotype as ct
from calotype.chain.source import open_source
from calotype.chain.stages import train_diffusion
from calotype.data.image_set import ImageSet
from calotype.presets import DIFFUSION
from calotype.presets.embedded import embedded_model
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.utils.images import image_grid, save_png

QUESTIONS = ("a crying face", "a cat that laughs")
STYLES = ("3d", "flat", "noto")
SEEDS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/retrieval"))
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
        Task(name="retrieve"),
    )
    model = ct.load(checkpoint)
    rows = []
    for style in (None,) if arguments.debug else (None, *STYLES):
        images = ct.Loader(of_style(source.train, style), ct.Transform(size=model.first_stage.size))
        index = index_of(model, images)
        for question in QUESTIONS:
            found = ct.retrieve(
                model, captions=[question] * SEEDS, index=index, seeds=range(SEEDS), steps=steps, progress=True
            )
            rows += [images.at(found.rows[0]).images, torch.ones(1, *found.images.shape[1:]), found.images]
    columns = len(found.rows[0]) + 1 + SEEDS
    save_png(arguments.out / "retrieved.png", image_grid(torch.cat(rows), columns=columns))
    print(f"picture: {arguments.out / 'retrieved.png'} ({'; '.join(QUESTIONS)}, in all images and in {STYLES})")


def of_style(images: ImageSet, style: str | None) -> ImageSet:
    """Return the images of a style, or all."""
    return images.subset([i for i, each in enumerate(images.records) if style in (None, each.fields["style"])])


def index_of(model: ct.LatentDiffusion, images: ct.Loader) -> ct.RetrievalIndex:
    """Return a data base of these images by the encoder that the model was trained with."""
    encoder = model.index.contents.encoder
    return ct.build_index(images, encoder, ct.text_encoder_for(images.images, encoder), device=model.device)


if __name__ == "__main__":
    main()
