"""Train a model that enlarges pictures four times, then let it: small ones at once, a large one in windows.

    .venv/bin/python examples/upscale.py --out runs/upscale --seconds 600

It learns from the embedded faces, or from a folder of your own (--data), to undo bicubic reduction, and enlarges
pictures that it has never seen. Writes OUT/upscaled.png and OUT/large.png. Stop it and run it again: it goes on.
--debug takes seconds, and shows nothing worth seeing.
"""

import argparse
import logging
from pathlib import Path

import torch
import torch.nn.functional as F

import calotype as ct
from calotype.chain.run import run_chain
from calotype.chain.source import open_source
from calotype.presets.tasks import Task
from calotype.utils.images import image_grid, save_png
from calotype.utils.seeds import generator

PICTURES, FACTOR = 6, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="emoji:faces", help="a folder of images, or emoji, emoji:faces ...")
    parser.add_argument("--out", type=Path, default=Path("runs/upscale"))
    parser.add_argument("--seconds", type=float, default=600.0, help="of training and report together")
    parser.add_argument("--debug", action="store_true", help="two seconds, 32 pixels, two steps")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    seconds, steps = (2.0, 2) if arguments.debug else (arguments.seconds, 20)

    task = Task(name="upscale", factor=FACTOR)
    size = 32 if arguments.debug else None
    run_chain(arguments.data, arguments.out / "run", minutes=seconds / 60, size=size, task=task)
    model = ct.load(arguments.out / "run")
    loader = ct.Loader(open_source(arguments.data).held_out, ct.Transform(size=model.first_stage.size))
    originals = loader.at(range(PICTURES)).images

    (made,) = model.derived  # how training made the small images
    small = torch.stack([made.make(image, generator("example", row)) for row, image in enumerate(originals)])
    compare(model, small, steps, arguments.out / "upscaled.png", originals)

    sheet = torch.cat([torch.cat(list(row), dim=2) for row in small.view(2, PICTURES // 2, *small.shape[1:])], dim=1)
    compare(model, sheet[None], steps, arguments.out / "large.png")


def compare(
    model: ct.LatentDiffusion, small: torch.Tensor, steps: int, path: Path, originals: torch.Tensor | None = None
) -> None:
    """Enlarge; write a row for each picture: its pixels, bicubic interpolation, ours, and the original."""
    enlarged = ct.upscale(model, small, seeds=range(len(small)), steps=steps, progress=True)
    nearest = F.interpolate(small, scale_factor=FACTOR, mode="nearest")
    bicubic = F.interpolate(small, scale_factor=FACTOR, mode="bicubic", antialias=True).clamp(-1, 1)
    columns = [nearest, bicubic, enlarged, *([] if originals is None else [originals])]
    save_png(path, image_grid(torch.stack(columns, dim=1).flatten(0, 1), columns=len(columns)))
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
