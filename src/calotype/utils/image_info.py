"""What every reader of image files shares: how a file is described, what is refused, and how pixels are put right."""

import contextlib
import math
import struct
import tokenize
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from calotype.utils.errors import UserError

MAX_PIXELS = 100_000_000
MAX_CHANNELS = 512
BYTES_PER_PIXEL = 8
WHITE = (255, 255, 255)

Alpha = Literal["none", "blended", "kept"]
Layout = Literal["hwc", "chw", "hw"]

_EXACT_IN_FLOAT32 = 2**24
# What parsers raise on damaged or hostile bytes; Warning covers interpreters that turn warnings into errors.
DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    MemoryError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
    Image.DecompressionBombError,
    Warning,
)


class ImageError(UserError):
    """An image file that cannot be used: ``reason`` says why in a few plain words."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason


@dataclass(frozen=True)
class ImageInfo:
    """What an image file is. ``width`` and ``height`` are those of the upright image.

    ``mode`` is Pillow's, or ``4 channels`` for what Pillow has no mode for. ``stored`` names the numbers in the file,
    ``dtype`` those that ``read_image`` returns: uint8, uint16, int16 or float32. ``animated`` files have further frames
    or pages, which are not read. ``alpha`` says what became of a channel of opacity, ``layout`` in which order an array
    is stored (channels last, channels first, or without an axis for the only one).
    """

    width: int
    height: int
    format: str
    mode: str
    channels: int
    stored: str
    dtype: str
    animated: bool = False
    exif_rotated: bool = False
    alpha: Alpha = "none"
    layout: Layout = "hwc"

    @property
    def depth(self) -> int:
        """Bits per channel in the file; less than a byte counts as one."""
        return 8 * np.dtype(self.stored).itemsize

    def __str__(self) -> str:
        numbers = f"{self.depth}-bit" if self.stored in ("uint8", "uint16") else self.stored
        return f"{self.format} {self.mode} {numbers}"


@contextlib.contextmanager
def decoding(path: Path | str, max_pixels: int) -> Iterator[None]:
    """Turn everything that a decoder raises into an ``ImageError`` about ``path``."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(path, f"is more than {max_pixels / 1e6:g} megapixels") from None
    except DECODER_ERRORS as error:
        raise ImageError(path, _reason(path, error)) from error


def _reason(path: Path | str, error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, UnidentifiedImageError):
        return "empty file" if Path(path).stat().st_size == 0 else "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if "truncated" in text.lower():
        return "truncated"
    return f"damaged ({text[:100]})"


def plural(channels: int) -> str:
    """Return ``1 channel``, ``4 channels``."""
    return f"{channels} channel{'s' * (channels != 1)}"


def check_extent(
    path: Path | str, width: int, height: int, max_pixels: int, channels: int = 1, stored: str = "uint8"
) -> None:
    """Refuse by its header, before anything is allocated, what is empty or too large.

    Raises:
        ImageError: no pixels, more than ``max_pixels`` of them, too many channels, or too many bytes altogether.
    """
    if min(width, height, channels) < 1:
        raise ImageError(path, f"has no pixels ({width}x{height}, {plural(channels)})")
    if width * height > max_pixels:
        raise ImageError(path, f"{width}x{height} is more than {max_pixels / 1e6:g} megapixels")
    if channels > MAX_CHANNELS:
        raise ImageError(path, f"{channels} channels are more than {MAX_CHANNELS}")
    if width * height * channels * np.dtype(stored).itemsize > BYTES_PER_PIXEL * max_pixels:
        most = BYTES_PER_PIXEL * max_pixels / 1e6
        raise ImageError(path, f"{width}x{height} with {plural(channels)} of {stored} is more than {most:g} MB")


def read_as(path: Path | str, stored: np.dtype) -> str:
    """Name the type in which numbers of type ``stored`` are read.

    Raises:
        ImageError: they are no real numbers.
    """
    if stored.name in ("uint8", "uint16", "int16"):
        return stored.name
    if stored.kind in "biuf" and stored.itemsize <= 8:
        return "float32"
    raise ImageError(path, f"holds {stored.name} rather than integers or floating-point numbers")


def as_pixels(path: Path | str, values: np.ndarray) -> np.ndarray:
    """Return ``values`` in the type that ``read_as`` names and this machine's byte order.

    Raises:
        ImageError: integers that float32 cannot hold, or numbers that are not finite.
    """
    dtype = read_as(path, values.dtype)
    if values.dtype.kind in "iu" and dtype == "float32":
        most = max(int(values.max()), -int(values.min()))
        if most > _EXACT_IN_FLOAT32:
            raise ImageError(path, f"holds {values.dtype.name} up to {most}, which float32 does not hold exactly")
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(values, dtype=dtype)
    wrong = pixels.size - int(np.isfinite(pixels).sum()) if dtype == "float32" else 0
    if wrong:
        raise ImageError(path, f"{wrong} of {pixels.size} pixels are not finite (NaN, or beyond float32)")
    return pixels


def find_layout(shape: Sequence[int]) -> Layout | None:
    """Say which axis of an array holds the channels: first or last, and shorter than both others; else ``None``."""
    if len(shape) == 2:
        return "hw"
    if len(shape) == 3 and sorted(shape)[0] < sorted(shape)[1]:
        return {0: "chw", 2: "hwc"}.get(list(shape).index(min(shape)))  # type: ignore[return-value]
    return None


def channels_last(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Return (h, w, c) for an array stored as ``layout``."""
    return {"hwc": lambda: values, "chw": lambda: np.moveaxis(values, 0, -1), "hw": lambda: values[..., None]}[layout]()


def channels_as(pixels: np.ndarray, layout: Layout) -> np.ndarray:
    """Return (h, w, c) ``pixels`` as they are stored in ``layout``."""
    if layout == "hw" and pixels.shape[2] == 1:
        return pixels[..., 0]
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)) if layout == "chw" else pixels


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array with rows and columns in front upright (EXIF 2.32, tag 274: 1 is upright, 2 to 8 are not)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def luma(colour: tuple[int, int, int]) -> int:
    """Return the grey of an 8-bit colour (ITU-R BT.601)."""
    return round(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2])


def blended(pixels: np.ndarray, background: tuple[int, int, int], *, premultiplied: bool = False) -> np.ndarray:
    """Lay (h, w, 2 or 4) uint8 or uint16 ``pixels``, the last channel their opacity, over an 8-bit colour."""
    most = int(np.iinfo(pixels.dtype).max)
    below = np.array(background if pixels.shape[2] == 4 else [luma(background)], np.float32) * (most // 255)
    colours, opacity = pixels[..., :-1].astype(np.float32), pixels[..., -1:].astype(np.float32) / most
    above = colours if premultiplied else colours * opacity
    return np.rint(above + below * (1 - opacity)).clip(0, most).astype(pixels.dtype)


def size_in_bytes(shape: Sequence[int], dtype: np.dtype) -> int:
    """Return the bytes of an array, in Python's integers, which do not overflow."""
    return math.prod(shape) * dtype.itemsize
