"""Label maps: images whose values are the numbers of classes, not brightness."""

import colorsys
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps

from calotype.utils.files import atomic_write
from calotype.utils.image_info import MAX_PIXELS, ImageError, decoding
from calotype.utils.images import read_image
from calotype.utils.npy import MAGIC
from calotype.utils.pillow_images import opened, raw_mode

UNLABELLED = -1
_IN_8_BITS = 255
_LABEL_MODES = ("1", "L", "P", "I;16", "I;16B")
# Pillow spreads grey values of 2 and 4 bits over 0 to 255.
_SPREAD = {"L;2": 85, "L;4": 17}
_GOLDEN_RATIO = 0.618034


def read_labels(path: Path | str, max_pixels: int = MAX_PIXELS) -> Int[np.ndarray, "h w"]:
    """Read a label map: the label of a pixel is its palette index, its grey value, or its integer in a ``.npy`` file.

    In files of 8 bits 255 means unlabelled, in ``.npy`` files any negative number does; both become -1.

    Raises:
        ImageError: as ``read_image``; or it has colours, or lossy compression, and so no labels.
    """
    with decoding(path, max_pixels):
        with Path(path).open("rb") as file:
            is_npy = file.read(len(MAGIC)) == MAGIC
        labels = _from_array(path, max_pixels) if is_npy else _from_picture(path, max_pixels)
    return np.maximum(labels.astype(np.int32), UNLABELLED)


def _from_picture(path: Path | str, max_pixels: int) -> np.ndarray:
    with opened(path, max_pixels) as image:
        if image.format in ("JPEG", "MPO"):
            raise ImageError(path, "JPEG changes labels; save the map as a PNG with a palette, or in grey")
        if image.mode not in _LABEL_MODES:
            raise ImageError(
                path,
                f"is coloured ({image.mode}), which does not say which colour is which label; save it with a palette "
                "(indexed colour: the index is the label) or in grey (the value is the label)",
            )
        spread = _SPREAD.get(raw_mode(image), 1)
        image.load()
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.int32)
        eight_bits = image.mode in ("L", "P") and spread == 1
    return np.where(values == _IN_8_BITS, UNLABELLED, values) if eight_bits else values // spread


def _from_array(path: Path | str, max_pixels: int) -> np.ndarray:
    values = read_image(path, max_pixels=max_pixels)
    if values.shape[2] != 1 or (values != np.rint(values)).any():
        raise ImageError(path, f"has no labels: they are integers (height, width), not {values.shape}")
    return values[..., 0]


def write_labels(path: Path | str, labels: Int[np.ndarray, "h w"]) -> None:
    """Write ``label_image`` as a PNG, atomically."""
    image = label_image(labels)
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")


def label_image(labels: Int[np.ndarray, "h w"]) -> Image.Image:
    """Return labels as an image with a palette and -1 as 255, or, where labels exceed 254, in 16-bit grey.

    Raises:
        ValueError: labels beyond 65535, or above 254 together with -1, which has no value in 16 bits.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < UNLABELLED or high > 65_535 or (low < 0 and high >= _IN_8_BITS):
        raise ValueError(f"labels from {low} to {high} do not fit into a PNG")
    if high >= _IN_8_BITS:
        return Image.fromarray(labels.astype(np.uint16))
    image = Image.fromarray(np.where(labels < 0, _IN_8_BITS, labels).astype(np.uint8))
    image.putpalette(_palette().tobytes())
    return image


def coloured(labels: Int[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture of labels, in the colours of the palette that ``write_labels`` uses (they repeat after 255)."""
    return _palette()[np.where(labels < 0, _IN_8_BITS, labels % _IN_8_BITS)]


@cache
def _palette() -> UInt8[np.ndarray, "256 3"]:
    """Colours whose neighbours differ: hues a golden ratio apart, in three lightnesses; black is unlabelled."""
    colours = [colorsys.hls_to_rgb(i * _GOLDEN_RATIO % 1, (0.55, 0.4, 0.7)[i % 3], 0.75) for i in range(_IN_8_BITS)]
    return np.rint(np.array([*colours, (0, 0, 0)]) * 255).astype(np.uint8)
