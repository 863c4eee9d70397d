"""TIFF files of any number of channels and any depth, read and written with the optional package ``tifffile``."""

import json
import logging
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from calotype.utils.image_info import (
    DECODER_ERRORS,
    Alpha,
    ImageError,
    ImageInfo,
    Layout,
    as_pixels,
    blended,
    channels_as,
    channels_last,
    check_extent,
    find_layout,
    plural,
    read_as,
    turned,
)
from calotype.utils.tiff_pages import COMPRESSIONS, read_page

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

MISSING = "is a TIFF that needs the package tifffile: pip install 'calotype[data]'"
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_ORIENTATION = 274
_ASSOCIATED, _UNASSOCIATED = 1, 2


def is_tiff(path: Path | str) -> bool:
    """Whether the file at ``path`` begins as a TIFF does."""
    with Path(path).open("rb") as file:
        return file.read(4) in _MAGIC


def has_tifffile() -> bool:
    """Whether the package is installed."""
    return find_spec("tifffile") is not None


@dataclass(frozen=True)
class _Array:
    """The pages that make up one image, and what is to be done with it."""

    pages: list[Any]
    info: ImageInfo
    premultiplied: bool
    orientation: int


def load_tiff(
    path: Path | str, background: tuple[int, int, int], max_pixels: int, alpha: Alpha, *, header_only: bool = False
) -> tuple[ImageInfo, np.ndarray] | None:
    """Describe and read a TIFF that Pillow cannot read without loss; ``None`` for those that it can.

    A last channel that is tagged as opacity is laid over ``background``, or stays with ``alpha="kept"``; that of
    signed and floating-point files always stays, as their range is not known. Grey pages that are the channels of one
    image (as tifffile, ImageJ and OME write them) are read as such. ``header_only`` leaves the pixels out.

    Raises:
        ImageError: too large, compressed in a way that is not read, damaged, or pixels that are not finite.
    """
    if not has_tifffile():
        return None
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it finds odd is said by this module
    with Path(path).open("rb") as handle:
        try:
            file = tifffile.TiffFile(handle)
            array = _describe(path, file, alpha)
        except ImageError:
            raise
        except DECODER_ERRORS:
            return None  # Pillow says what is wrong
        if array is None:
            return None
        info = array.info
        check_extent(path, info.width, info.height, max_pixels, info.channels, info.stored)
        if header_only:
            return info, np.empty((0, info.width, info.channels), info.dtype)
        values = np.concatenate([read_page(path, handle, file.byteorder, page) for page in array.pages])
    # [pages or separate channels, rows, columns, channels]
    upright = turned(_channels_last(values, info.layout), array.orientation)
    pixels = as_pixels(path, _inverted(upright, array.pages[0].keyframe))
    return info, blended(pixels, background, premultiplied=array.premultiplied) if info.alpha == "blended" else pixels


def _channels_last(values: np.ndarray, layout: Layout) -> np.ndarray:
    if values.shape[0] == 1 and layout != "chw":
        return values[0]
    return channels_last(values[..., 0], layout)


def _inverted(values: np.ndarray, page: "TiffPage") -> np.ndarray:
    """Turn white-is-zero files over; of signed and floating-point ones nobody knows about which value."""
    if int(page.photometric) == _WHITE_IS_ZERO and values.dtype.kind == "u":
        return np.iinfo(values.dtype).max - values
    return values


def _describe(path: Path | str, file: "TiffFile", alpha: Alpha) -> _Array | None:
    """Find the image in ``file``; ``None`` where Pillow is to read it."""
    page = file.pages.first
    pages, layout = _stack(file) or ([page], _layout(page))
    stored, samples = page.dtype, page.samplesperpixel
    if int(page.photometric) not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or stored is None or page.imagedepth != 1:
        return None
    if page.bitspersample != 8 * stored.itemsize or _is_plain(page, len(pages)):
        return None
    if int(page.compression) not in COMPRESSIONS or page.fillorder != 1:
        if stored == np.uint8:
            return None
        raise ImageError(path, f"is compressed as {page.compression!s}; save it uncompressed or with deflate")
    rows, columns, channels = page.imagelength, page.imagewidth, samples
    if len(pages) > 1:
        rows, columns, channels = (
            (rows, columns, len(pages)) if layout == "chw" else (len(pages), page.imagelength, page.imagewidth)
        )
    tagged = _opacity(page)
    blend = tagged and alpha != "kept"
    orientation = page.tags.valueof(_ORIENTATION, 1)
    orientation = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    info = ImageInfo(
        width=rows if orientation >= 5 else columns,
        height=columns if orientation >= 5 else rows,
        format="TIFF",
        mode=plural(channels),
        channels=channels - blend,
        stored=stored.name,
        dtype=read_as(path, stored),
        animated=len(file.pages) > len(pages),
        exif_rotated=orientation > 1,
        alpha="none" if not tagged else "blended" if blend else "kept",
        layout=layout,
    )
    return _Array(pages, info, tagged == _ASSOCIATED, orientation)


def _is_plain(page: "TiffPage", pages: int) -> bool:
    """Whether Pillow has a mode for the page: 8-bit grey and RGB, 16-bit grey."""
    photometric = int(page.photometric)
    if pages > 1:
        return False
    if page.samplesperpixel == 1:
        return page.dtype == np.uint8 or (page.dtype == np.uint16 and photometric == _BLACK_IS_ZERO)
    return page.dtype == np.uint8 and page.samplesperpixel == 3 and photometric == _RGB


def _opacity(page: "TiffPage") -> int:
    """Return the kind of opacity (TIFF 6.0, ExtraSamples) that the last of 2 or 4 channels is tagged as, or 0."""
    colours = 3 if int(page.photometric) == _RGB else 1
    extra = [int(each) for each in page.extrasamples]
    usable = page.dtype in (np.uint8, np.uint16) and page.samplesperpixel == colours + 1 and len(extra) == 1
    return extra[0] if usable and extra[0] in (_ASSOCIATED, _UNASSOCIATED) else 0


def _layout(page: "TiffPage") -> Layout:
    if page.samplesperpixel == 1:
        return "hw"
    return "chw" if int(page.planarconfig) == 2 else "hwc"


def _stack(file: "TiffFile") -> tuple[list[Any], Layout] | None:
    """Return the grey pages that together are one image, if that is what the file's description says."""
    first = file.pages.first
    if first.samplesperpixel != 1:
        return None
    shape = _told_shape(first)
    layout = find_layout(shape) if len(shape) == 3 else None
    if layout is None or shape[0] < 2 or tuple(shape[1:]) != (first.imagelength, first.imagewidth):
        return None
    if len(file.pages) < shape[0]:
        return None
    pages: list[Any] = [file.pages[index] for index in range(shape[0])]
    fits = all(page.keyframe.shaped == first.shaped and page.keyframe.dtype == first.dtype for page in pages)
    return (pages, layout) if fits else None


def _told_shape(page: "TiffPage") -> list[int]:
    """Return the shape of the array over several pages that the writer has noted: tifffile, ImageJ or OME."""
    text = page.description or ""
    if page.is_shaped:
        told = json.loads(page.shaped_description or "{}")
        axes = told.get("axes", "Q")
        return list(told["shape"]) if axes.startswith(("Q", "C")) or axes.endswith("C") else []
    if page.is_imagej:
        channels, images = (re.search(rf"^{name}=(\d+)", text, re.MULTILINE) for name in ("channels", "images"))
        together = channels and images and channels[1] == images[1]
        return [int(channels[1]), page.imagelength, page.imagewidth] if channels and together else []
    if page.is_ome:  # only pages of this file are taken, whatever others it names
        sizes = {name: int(found[1]) for name in "CZT" if (found := re.search(rf'Size{name}="(\d+)"', text))}
        if sizes.get("Z") == sizes.get("T") == 1:
            return [sizes.get("C", 1), page.imagelength, page.imagewidth]
    return []


def save_tiff(path: Path, pixels: np.ndarray, info: ImageInfo | None) -> None:
    """Write (h, w, c) ``pixels`` uncompressed, in the layout and with the opacity tag of ``info``.

    Raises:
        UserError: tifffile is not installed.
    """
    if not has_tifffile():
        raise ImageError(path, MISSING)
    import tifffile

    channels = pixels.shape[2]
    planar = info is not None and info.layout == "chw" and channels > 1
    opacity = info is not None and info.alpha == "kept" and channels in (2, 4)
    options: dict[str, Any] = {"photometric": "rgb" if channels == 3 or (channels == 4 and opacity) else "minisblack"}
    if channels > 1:
        options["planarconfig"] = "separate" if planar else "contig"
    if opacity:
        options["extrasamples"] = ["unassalpha"]
    layout: Layout = "hw" if channels == 1 else "chw" if planar else "hwc"
    tifffile.imwrite(path, channels_as(pixels, layout), metadata=None, **options)
