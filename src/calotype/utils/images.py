"""Image files in and out: one file read safely, files written without loss, images laid out as a grid."""

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from calotype.utils.files import atomic_write
from calotype.utils.image_info import MAX_PIXELS, WHITE, Alpha, ImageError, ImageInfo, decoding
from calotype.utils.npy import MAGIC, load_npy, save_npy
from calotype.utils.pillow_images import inspect_picture, load_picture
from calotype.utils.tiff import has_tifffile, is_tiff, load_tiff, save_tiff

__all__ = [
    "MAX_PIXELS",
    "WHITE",
    "Alpha",
    "ImageError",
    "ImageInfo",
    "image_grid",
    "inspect_image",
    "load_image",
    "lossless_path",
    "read_image",
    "save_image",
    "save_png",
]

_SUFFIXES = {"PNG": (".png", ".apng"), "TIFF": (".tif", ".tiff"), "NPY": (".npy",)}


def read_image(
    path: Path | str,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
    alpha: Alpha = "blended",
) -> np.ndarray:
    """Decode the (first frame of the) image at ``path``, upright, as (h, w, c) at the depth of the file.

    Pictures have 1 channel if grey, else 3; their transparent pixels are laid over ``background`` (its luma for grey
    files), in 16 bits if they have them. TIFF and ``.npy`` may have any number of channels, and uint8, uint16, int16
    or float32 numbers (other types become float32 if that is exact). With ``alpha="kept"`` a channel of a TIFF that is
    tagged as opacity stays what it is, a channel.

    Raises:
        ImageError: missing, damaged, truncated, no known format, larger than ``max_pixels``, not finite, or in need of
            a package that is not installed.
    """
    return load_image(path, background, max_pixels, alpha)[1]


def inspect_image(path: Path | str, max_pixels: int = MAX_PIXELS, alpha: Alpha = "blended") -> ImageInfo:
    """Describe the image at ``path`` from its header alone; whether it decodes is known only to ``load_image``.

    Raises:
        ImageError: as ``read_image``, as far as the header shows.
    """
    with decoding(path, max_pixels):
        if _is_npy(path):
            return load_npy(path, max_pixels, header_only=True)[0]
        found = load_tiff(path, WHITE, max_pixels, alpha, header_only=True) if is_tiff(path) else None
        return inspect_picture(path, max_pixels) if found is None else found[0]


def load_image(
    path: Path | str,
    background: tuple[int, int, int] = WHITE,
    max_pixels: int = MAX_PIXELS,
    alpha: Alpha = "blended",
) -> tuple[ImageInfo, np.ndarray]:
    """Return what ``inspect_image`` and ``read_image`` do, for one decoding."""
    with decoding(path, max_pixels):
        if _is_npy(path):
            return load_npy(path, max_pixels)
        found = load_tiff(path, background, max_pixels, alpha) if is_tiff(path) else None
        return load_picture(path, background, max_pixels) if found is None else found


def _is_npy(path: Path | str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def save_image(path: Path | str, pixels: np.ndarray, like: ImageInfo | None = None) -> Path:
    """Write (h, w, c) ``pixels`` without loss, atomically, to ``lossless_path``, which is returned.

    TIFF and ``.npy`` keep the layout of ``like``, channels first or last.
    """
    path = lossless_path(path, pixels, like)
    kind = _format_for(pixels, like)
    if kind == "PNG":
        save_png(path, pixels)
        return path
    with atomic_write(path) as temporary:
        (save_tiff if kind == "TIFF" else save_npy)(temporary, pixels, like)
    return path


def lossless_path(path: Path | str, pixels: np.ndarray, like: ImageInfo | None = None) -> Path:
    """Return ``path`` with the suffix of the format that holds ``pixels`` exactly.

    This is the format of ``like`` if it can, else PNG (1 or 3 channels of 8 or 16 bits), else TIFF, else (without
    tifffile) ``.npy``.
    """
    path, suffixes = Path(path), _SUFFIXES[_format_for(pixels, like)]
    return path if path.suffix.lower() in suffixes else path.with_suffix(suffixes[0])


def _format_for(pixels: np.ndarray, like: ImageInfo | None) -> str:
    fits_png = pixels.shape[2] in (1, 3) and pixels.dtype in (np.uint8, np.uint16)
    wanted = like.format if like is not None and like.format in ("TIFF", "NPY") else "PNG" if fits_png else "TIFF"
    if wanted == "TIFF" and not has_tifffile():
        return "PNG" if fits_png else "NPY"
    return wanted


def save_png(path: Path | str, pixels: np.ndarray) -> None:
    """Write (h, w), (h, w, 1) or (h, w, 3) uint8 or uint16 ``pixels`` as a PNG of that depth, atomically."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a PNG is (h, w, 1 or 3) of uint8 or uint16, not {pixels.shape} of {pixels.dtype}")
    with atomic_write(path) as temporary:
        if pixels.dtype == np.uint16:
            temporary.write_bytes(_png16(pixels))
        else:
            Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(temporary, format="PNG")


def image_grid(images: Float[Tensor, "n c h w"], columns: int, padding: int = 2) -> np.ndarray:
    """Lay images in [-1, 1] out row by row, ``columns`` wide, with ``padding`` white pixels around each: uint8 HWC.

    It is a picture for people: of 2 channels the first is shown, in grey; of 4 and more the first three, as colours.
    """
    count, channels, height, width = images.shape
    shown = 3 if channels >= 3 else 1
    rows = -(-count // columns)
    values = (images[:, :shown].detach().float().cpu().clamp(-1, 1) + 1) * 127.5
    tiles = values.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    grid = np.full((rows * (height + padding) + padding, columns * (width + padding) + padding, shown), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        grid[top : top + height, left : left + width] = tile
    return grid


def _png16(pixels: np.ndarray) -> bytes:
    """Encode as PNG with 16 bits per channel, which Pillow writes for grey only (https://www.w3.org/TR/png-3/)."""
    height, width, channels = pixels.shape
    colour_type = {1: 0, 3: 2}[channels]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    unfiltered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(unfiltered.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
