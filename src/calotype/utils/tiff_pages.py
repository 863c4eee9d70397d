"""The pixels of one TIFF page: strips or tiles, unpacked to the size that the header promises and no further."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from calotype.utils.image_info import ImageError

_NONE, _LZW, _DEFLATE, _PACK_BITS, _OLD_DEFLATE, _LZMA, _ZSTD = 1, 5, 8, 32773, 32946, 34925, 50000
COMPRESSIONS = (_NONE, _LZW, _DEFLATE, _PACK_BITS, _OLD_DEFLATE, _LZMA, _ZSTD)
_HORIZONTAL, _FLOATING = 2, 3


def read_page(path: Path | str, file: BinaryIO, byte_order: str, page: Any) -> np.ndarray:
    """Return the page as [planes, rows, columns, channels] in its own type: planes are 1, or the separate channels.

    ``page`` is tifffile's: its tags are believed only as far as the file bears them out.

    Raises:
        ImageError: a strip is missing, cut or damaged.
    """
    frame = page.keyframe
    planes, _, rows, columns, samples = frame.shaped
    tall, wide = (frame.tilelength, frame.tilewidth) if frame.is_tiled else (min(frame.rowsperstrip, rows), columns)
    down, across = -(-rows // tall), -(-columns // wide)
    if not len(page.dataoffsets) == len(page.databytecounts) == planes * down * across:
        raise ImageError(path, f"damaged ({len(page.dataoffsets)} strips or tiles, not {planes * down * across})")
    pixels = np.zeros((planes, rows, columns, samples), frame.dtype)
    for index, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        plane, place = divmod(index, down * across)
        top, left = place // across * tall, place % across * wide
        if count:  # absent tiles are zero
            file.seek(offset)
            height = tall if frame.is_tiled else min(tall, rows - top)
            packed = file.read(min(count, 2 * height * wide * samples * frame.dtype.itemsize + 4096))
            block = _block(path, packed, (height, wide, samples), frame, byte_order)
            pixels[plane, top : top + tall, left : left + wide] = block[: rows - top, : columns - left]
    return pixels


def _block(path: Path | str, packed: bytes, shape: tuple[int, int, int], frame: Any, byte_order: str) -> np.ndarray:
    """Decode one strip or tile to (h, w, c)."""
    height, width, samples = shape
    row = width * samples * frame.dtype.itemsize
    data = _unpacked(packed, int(frame.compression), row, height)
    if len(data) < row * height:
        raise ImageError(path, "truncated")
    lanes = np.frombuffer(data, np.uint8, row * height)
    if frame.predictor == _FLOATING:
        return _from_floating(lanes.reshape(height, -1), shape, frame.dtype)
    values = lanes.view(frame.dtype.newbyteorder(byte_order)).astype(frame.dtype).reshape(shape)
    if frame.predictor == _HORIZONTAL:
        values = values.cumsum(axis=1, dtype=frame.dtype)
    return values


def _from_floating(lanes: np.ndarray, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """Undo the floating-point predictor (TIFF Technical Note 3): differences of bytes, a row's highest bytes first."""
    height, width, samples = shape
    summed = lanes.reshape(height, -1, samples).cumsum(axis=1, dtype=np.uint8)
    planes = summed.reshape(height, dtype.itemsize, width * samples)
    return np.ascontiguousarray(planes.swapaxes(1, 2)).view(dtype.newbyteorder(">")).astype(dtype).reshape(shape)


def _unpacked(packed: bytes, compression: int, row: int, rows: int) -> bytes:
    """Return at least ``row * rows`` bytes, or fewer where there are none; never many more."""
    if compression == _NONE:
        return packed
    if compression in (_DEFLATE, _OLD_DEFLATE):
        return zlib.decompressobj().decompress(packed, row * rows + 1)
    with Image.open(io.BytesIO(_as_picture(packed, compression, row, rows)), formats=("TIFF",)) as picture:
        return picture.tobytes()


def _as_picture(packed: bytes, compression: int, width: int, height: int) -> bytes:
    """Return a TIFF of one grey 8-bit strip around ``packed``: bytes of any meaning, for Pillow's libtiff to unpack."""
    short, long = 3, 4
    start = 8 + len(packed) + len(packed) % 2
    tags = [
        (256, long, width),
        (257, long, height),
        (258, short, 8),
        (259, short, compression),
        (262, short, 1),
        (273, long, 8),
        (277, short, 1),
        (278, long, height),
        (279, long, len(packed)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, start) + packed.ljust(start - 8, b"\0") + directory
