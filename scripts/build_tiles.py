"""Cut photographs into small square tiles at several scales, split by source image, for training and measuring.

    apt-get install mate-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 plasma-workspace-wallpapers
    .venv/bin/python scripts/build_tiles.py --out runs/tiles /usr/share/backgrounds /usr/share/wallpapers

Writes train/ and held_out/. Of several sizes of one wallpaper the largest counts; a fifth of the sources, chosen by
their names, is held out. Tiles without any detail (standard deviation under 2 of 255) are left out. The pictures are
free, but under licences that forbid shipping them with this package.
"""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from calotype.utils.images import ImageError, read_image, save_png
from calotype.utils.progress import progress
from calotype.utils.seeds import seed_of

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SHORT_SIDES = {1536: 120, 768: 100, 384: 36, 192: 9, 96: 3}
LEAST_DETAIL = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    sources = find_sources(arguments.folders)
    counts = {"train": 0, "held_out": 0}
    with progress("tiles", len(sources)) as bar:
        for name, path in sources.items():
            part = "held_out" if int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 == 0 else "train"
            for index, tile in enumerate(tiles(path, name, arguments.size)):
                save_png(arguments.out / part / f"{name}_{index:03}.png", tile)
                counts[part] += 1
            bar.advance(1)
    print(
        f"{len(sources)} pictures: {counts['train']} tiles to train on, {counts['held_out']} held out: {arguments.out}"
    )


def find_sources(folders: list[Path]) -> dict[str, Path]:
    """Return one file per picture, the largest: files in a folder ``NAME/contents/images`` are one picture's sizes."""
    found: dict[str, Path] = {}
    files = (path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    for path in files:
        if path.stem == "screenshot":
            continue
        name = path.parents[1].name if path.parent.name.startswith("images") else path.stem
        name = path.parents[2].name if name == "contents" else name.partition("_3840")[0].partition("_5640")[0]
        if name not in found or path.stat().st_size > found[name].stat().st_size:
            found[name] = path
    return found


def tiles(path: Path, name: str, size: int) -> Iterator[np.ndarray]:
    """Yield square tiles from random places of the picture at every scale that it is large enough for."""
    try:
        pixels = read_image(path)
    except ImageError:
        return
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257)
    image = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint8))
    random = np.random.default_rng(seed_of("tiles", name))
    for side, count in SHORT_SIDES.items():
        scale = side / min(image.size)
        if scale > 1 or side < size:
            continue
        width, height = (max(side, round(edge * scale)) for edge in image.size)
        scaled = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
        for _ in range(count):
            top, left = (int(random.integers(edge - size + 1)) for edge in scaled.shape[:2])
            tile = scaled[top : top + size, left : left + size]
            if tile.std() >= LEAST_DETAIL:
                yield tile


if __name__ == "__main__":
    main()
