"""Draw the README's pictures from what this project trained.

    .venv/bin/python scripts/readme_pictures.py            (the embedded model's grid)
    .venv/bin/python scripts/readme_pictures.py --demo runs/demo

The captions are fixed, the seeds are 0, 1, 2 ... from left to right: nothing is picked.
"""

import argparse
import shutil
from pathlib import Path

from calotype.pipeline import LatentDiffusion, load
from calotype.presets.embedded import FOLDER
from calotype.utils.images import image_grid, save_png

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
STYLES = ("3d", "flat", "noto")
CONCEPTS = (
    "red apple",
    "grinning face",
    "dog face",
    "octopus",
    "sunflower",
    "pizza",
    "rocket",
    "red heart",
    "soccer ball",
    "umbrella",
    "robot",
    "crescent moon",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="a finished `make demo` folder: copy its sample grid")
    arguments = parser.parse_args()
    if arguments.demo:
        shutil.copyfile(arguments.demo / "samples.png", PICTURES / "demo.png")
        return
    model = load(FOLDER)
    assert isinstance(model, LatentDiffusion)
    captions = [f"{concept}, {style} style" for style in STYLES for concept in CONCEPTS]
    seeds = [index % len(CONCEPTS) for index in range(len(captions))]
    images = model.sample(seeds=seeds, caption=captions, progress=True)
    save_png(PICTURES / "embedded.png", image_grid(images, columns=len(CONCEPTS)))


if __name__ == "__main__":
    main()
