"""NumPy's ``.npy`` files as images: two axes are grey, of three the shortest one holds the channels."""

import math
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from calotype.utils.image_info import (
    ImageError,
    ImageInfo,
    as_pixels,
    channels_as,
    channels_last,
    check_extent,
    find_layout,
    plural,
    read_as,
)

MAGIC = b"\x93NUMPY"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load_npy(path: Path | str, max_pixels: int, *, header_only: bool = False) -> tuple[ImageInfo, np.ndarray]:
    """Describe the array at ``path`` and read it as (h, w, c).

    Nothing is allocated before the file is known to hold it. ``header_only`` leaves the pixels out (an array without
    rows).

    Raises:
        ImageError: no numbers, no image's shape, too large, cut, or pixels that are not finite.
    """
    with Path(path).open("rb") as file:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise ImageError(path, "is an array of records; save plain numbers")
        shape, by_columns, stored = _HEADERS[version](file)
        dtype = read_as(path, stored)
        layout = find_layout(shape)
        if layout is None:
            raise ImageError(path, _ambiguous(shape))
        height, width, channels = (shape[0], shape[1], 1) if layout == "hw" else shape
        if layout == "chw":
            channels, height, width = shape
        check_extent(path, width, height, max_pixels, channels, stored.name)
        count = math.prod(shape)
        held = Path(path).stat().st_size - file.tell()
        if held < count * stored.itemsize:
            raise ImageError(path, f"truncated: its header promises {count * stored.itemsize} bytes, {held} are there")
        info = ImageInfo(
            width=width,
            height=height,
            format="NPY",
            mode=plural(channels),
            channels=channels,
            stored=stored.name,
            dtype=dtype,
            layout=layout,
        )
        if header_only:
            return info, np.empty((0, width, channels), dtype)
        values = np.fromfile(file, stored, count).reshape(shape, order="F" if by_columns else "C")
    return info, as_pixels(path, channels_last(values, layout))


def save_npy(path: Path, pixels: np.ndarray, info: ImageInfo | None) -> None:
    """Write (h, w, c) ``pixels`` in the layout of ``info`` (channels last by default)."""
    with path.open("wb") as file:
        np.save(file, channels_as(pixels, info.layout if info else "hwc"), allow_pickle=False)


def _ambiguous(shape: tuple[int, ...]) -> str:
    if len(shape) != 3:
        return f"has the shape {shape}; an image is (height, width) or (height, width, channels)"
    return (
        f"has the shape {shape}, in which no axis is clearly the channels; save (height, width, channels), with fewer "
        "channels than pixels on either side"
    )
