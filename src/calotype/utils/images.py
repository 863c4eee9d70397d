"""Image files in and out: one file read safely, PNGs written, images laid out as a grid."""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError
from torch import Tensor

from calotype.utils.errors import UserError
from calotype.utils.files import atomic_write

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 100_000_000
WHITE = (255, 255, 255)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_EXIF = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}
# What Pillow's parsers raise on damaged or hostile bytes; Warning covers interpreters that turn warnings into errors.
_DECODER_ERRORS = (
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
    """What an image file is. ``width`` and ``height`` are those of the upright image, ``mode`` is Pillow's.

    ``depth`` is 16 for 16-bit files and 8 for all others, ``read_depth`` what ``read_image`` returns: the two differ
    for 16-bit colour and 16-bit grey with alpha, of which Pillow keeps the high byte alone. ``animated`` files have
    further frames (or pages), which are not read.
    """

    width: int
    height: int
    format: str
    mode: str
    channels: int
    depth: int
    read_depth: int
    animated: bool
    exif_rotated: bool
    transparent: bool


def read_image(path: Path | str, background: tuple[int, int, int] = WHITE, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode the (first frame of the) image at ``path``, upright, without alpha.

    Transparent pixels are laid over ``background`` (its luma for grey files). CMYK goes through the file's ICC profile
    if it has a valid one. Returns (h, w, c): c is 1 for grey files and 3 for all others; uint16 (full depth) for 16-bit
    grey, else uint8. Damage *inside* the compressed data of a JPEG that its decoder repairs is not noticed; a cut is.

    Raises:
        ImageError: missing, damaged, truncated, not in ``FORMATS``, of 32-bit pixels, or larger than ``max_pixels``.
    """
    return load_image(path, background, max_pixels)[1]


def inspect_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Describe the image at ``path`` from its header alone; whether it decodes is known only to ``load_image``.

    Raises:
        ImageError: as ``read_image``, as far as the header shows.
    """
    with _opened(path, max_pixels) as image:
        return _header(image)


def load_image(
    path: Path | str, background: tuple[int, int, int] = WHITE, max_pixels: int = MAX_PIXELS
) -> tuple[ImageInfo, np.ndarray]:
    """Return what ``inspect_image`` and ``read_image`` do, for one decoding."""
    with _opened(path, max_pixels) as image:
        info = _header(image)
        image.load()
        # Again, as the EXIF of a PNG may follow its pixels, and Pillow has turned a TIFF and says so.
        turn = _UPRIGHT.get(_orientation(image))
        upright = image.transpose(turn) if turn is not None else image
        info = replace(
            info,
            width=upright.width,
            height=upright.height,
            exif_rotated=info.exif_rotated or turn is not None,
            transparent=upright.has_transparency_data,
        )
        return info, _pixels(upright, info.channels, background)


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
    """Lay images in [-1, 1] out row by row, ``columns`` wide, with ``padding`` white pixels around each: uint8 HWC."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    tiles = (
        ((images.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    )
    shape = (rows * (height + padding) + padding, columns * (width + padding) + padding, channels)
    grid = np.full(shape, 255, np.uint8)
    for index, tile in enumerate(tiles):
        top = padding + index // columns * (height + padding)
        left = padding + index % columns * (width + padding)
        grid[top : top + height, left : left + width] = tile
    return grid


@contextlib.contextmanager
def _opened(path: Path | str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Open ``path``, refuse it by its header, and turn everything that Pillow raises into an ``ImageError``."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(path, f"{image.width}x{image.height} is more than {max_pixels / 1e6:g} megapixels")
            if image.mode in ("I", "F"):
                raise ImageError(path, "has 32-bit or signed pixels; save it with 8 or 16 bits")
            yield image
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(path, f"is more than {max_pixels / 1e6:g} megapixels") from None
    except _DECODER_ERRORS as error:
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


def _header(image: ImageFile.ImageFile) -> ImageInfo:
    arguments = image.tile[0].args if image.tile else ""
    raw_mode = str(arguments[0] if isinstance(arguments, tuple) else arguments)
    wide = image.mode.startswith("I;16")
    orientation = _orientation(image)
    sideways = orientation >= 5 and image.format != "TIFF"
    width, height = image.size[::-1] if sideways else image.size
    return ImageInfo(
        width=width,
        height=height,
        format="JPEG" if image.format == "MPO" else str(image.format),
        mode=image.mode,
        channels=1 if wide or image.mode in ("1", "L", "LA") or raw_mode.startswith("LA") else 3,
        depth=16 if wide or (";16" in raw_mode and image.format in ("PNG", "TIFF")) else 8,
        read_depth=16 if wide else 8,
        animated=image.format != "MPO" and bool(getattr(image, "is_animated", False)),
        exif_rotated=orientation in _UPRIGHT,
        transparent=image.has_transparency_data,
    )


def _orientation(image: ImageFile.ImageFile) -> int:
    if image.format == "PNG" and not image.info.keys() & _PNG_EXIF:
        return 1  # Pillow would decode the whole file to look for it
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) else 1


def _pixels(image: Image.Image, channels: int, background: tuple[int, int, int]) -> np.ndarray:
    luma = round(0.299 * background[0] + 0.587 * background[1] + 0.114 * background[2])
    if image.mode.startswith("I;16"):
        wide = np.array(image).astype(np.uint16)
        if "transparency" in image.info:
            wide[wide == image.info["transparency"]] = luma * 257
        return wide[..., None]
    if image.has_transparency_data:
        colour = background if channels == 3 else (luma, luma, luma)
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*colour, 255)), image.convert("RGBA"))
    elif image.mode == "CMYK":
        image = _from_cmyk(image)
    pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGB")


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
