"""Cut photographs that come with installed packages into small sets of every format: 1 to 13 channels, 8 bits to float.

    .venv/bin/python scripts/build_formats.py --out runs/formats

Writes a folder of 256 tiles for each of ``SETS``; the photographs are those of scikit-image and scikit-learn. Channels
beyond the colours are made of these: a near infrared (bright where green outweighs blue), bands between the colours
with a resolution of their own. They are no measurements, but correlate and differ in sharpness and range as such do.
"""

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from calotype.utils.image_info import ImageInfo
from calotype.utils.images import save_image
from calotype.utils.seeds import seed_of

PHOTOGRAPHS = {
    "skimage": "data/{}",
    "sklearn": "datasets/images/{}",
}
FILES = {
    "skimage": ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "ihc.png",
                "retina.jpg", "motorcycle_left.png"),
    "sklearn": ("china.jpg", "flower.jpg"),
}  # fmt: skip
TILE, COUNT, SCALES = (72, 108), 256, (1.0, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(SETS), choices=list(SETS))
    arguments = parser.parse_args()
    for index, tile in enumerate(tiles()):
        for name in arguments.only:
            suffix, make = SETS[name]
            path, pixels = arguments.out / name / f"{index:03}{suffix}", make(tile)
            if suffix == ".jpg":
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path, quality=92)
            else:
                save_image(path, pixels, like(suffix, pixels))
    print(f"{COUNT} tiles of {TILE[1]}x{TILE[0]} in each of {', '.join(arguments.only)}: {arguments.out}")


def tiles() -> list[np.ndarray]:
    """Return colour tiles (h, w, 3), floats in [0, 1], from random places of all photographs at two scales."""
    found = []
    for package, names in FILES.items():
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        for name in names:
            path = Path(spec.submodule_search_locations[0]) / PHOTOGRAPHS[package].format(name)
            found += [_scaled(Image.open(path).convert("RGB"), scale) for scale in SCALES]
    random = np.random.default_rng(seed_of("formats"))
    tiles = []
    while len(tiles) < COUNT:
        picture = found[len(tiles) % len(found)]
        top, left = (int(random.integers(edge - side + 1)) for edge, side in zip(picture.shape, TILE, strict=False))
        tiles.append(picture[top : top + TILE[0], left : left + TILE[1]])
    return tiles


def _scaled(image: Image.Image, scale: float) -> np.ndarray:
    scale = min(scale, 480 / min(image.size)) if scale == 1 else scale * min(1.0, 480 / min(image.size))
    size = tuple(max(round(edge * scale), least) for edge, least in zip(image.size, TILE[::-1], strict=True))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255


def colours(tile: np.ndarray) -> np.ndarray:
    """8-bit RGB."""
    return np.rint(255 * tile).astype(np.uint8)


def scan(tile: np.ndarray) -> np.ndarray:
    """Linear grey of 12 bits over a black level, in 16-bit numbers: (h, w, 1)."""
    luminance = (tile**2.2 @ np.array([0.2126, 0.7152, 0.0722], np.float32)) ** 0.8
    return np.rint(96 + 3950 * luminance[..., None]).astype(np.uint16)


def infrared(tile: np.ndarray) -> np.ndarray:
    """Red, green, blue and near infrared, 12 bits in 16: (h, w, 4)."""
    near = np.clip(0.25 + 0.9 * tile[..., 1] - 0.6 * tile[..., 2] + 0.3 * tile[..., 0], 0, 1) ** 1.4
    return np.rint(4000 * np.concatenate([tile, near[..., None]], axis=2)).astype(np.uint16)


def radiance(tile: np.ndarray) -> np.ndarray:
    """Linear radiance in float32, from a little below 0 to a few times 1: (h, w, 3)."""
    return (1.8 * tile**2.2 - 0.02).astype(np.float32)


def pair(tile: np.ndarray) -> np.ndarray:
    """Two channels in float32 of different units, as of a radar: (h, w, 2)."""
    first, second = tile.mean(2), tile[..., 0] - tile[..., 2]
    return np.stack([20 * np.log10(0.05 + first), second], axis=2).astype(np.float32)


def bands(tile: np.ndarray) -> np.ndarray:
    """Thirteen bands of 10, 20 and 60 m in the manner of a satellite, in 16-bit reflectance: (h, w, 13)."""
    near = infrared(tile)[..., 3].astype(np.float32) / 4000
    weights = np.linspace(0, 1, 13, dtype=np.float32)
    layers = []
    for index, weight in enumerate(weights):
        red, blue = tile[..., 0], tile[..., 2]
        layer = (1 - weight) * blue + weight * near + 0.5 * weight * (1 - weight) * (red - tile[..., 1])
        block = (6, 1, 1, 1, 2, 2, 2, 1, 2, 6, 6, 2, 2)[index]
        layers.append(_coarse(layer, block) * (0.4 + 0.05 * index))
    return np.rint(10_000 * np.clip(np.stack(layers, axis=2), 0, 1)).astype(np.uint16)


def _coarse(layer: np.ndarray, block: int) -> np.ndarray:
    height, width = layer.shape
    means = layer.reshape(height // block, block, width // block, block).mean((1, 3))
    image = Image.fromarray(means.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def like(suffix: str, pixels: np.ndarray) -> ImageInfo:
    """Describe the file that ``pixels`` are to be written to."""
    kind, dtype = {".png": "PNG", ".tif": "TIFF", ".npy": "NPY"}[suffix], str(pixels.dtype)
    height, width, channels = pixels.shape
    return ImageInfo(width, height, kind, f"{channels} channels", channels, dtype, dtype)


SETS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "photographs": (".jpg", colours),
    "grey16_png": (".png", scan),
    "grey16_tiff": (".tif", scan),
    "infrared_tiff": (".tif", infrared),
    "float_tiff": (".tif", radiance),
    "pair_npy": (".npy", pair),
    "bands_tiff": (".tif", bands),
}

if __name__ == "__main__":
    main()
