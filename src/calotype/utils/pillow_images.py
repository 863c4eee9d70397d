"""The picture formats that Pillow reads, at full depth: what it would cut to 8 bits is fetched in two halves."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError

from calotype.utils.image_info import ImageError, ImageInfo, blended, check_extent, luma, turned
from calotype.utils.tiff import MISSING, is_tiff

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

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


def inspect_picture(path: Path | str, max_pixels: int) -> ImageInfo:
    """Describe a picture from its header."""
    with opened(path, max_pixels) as image:
        return _header(image)


def load_picture(path: Path | str, background: tuple[int, int, int], max_pixels: int) -> tuple[ImageInfo, np.ndarray]:
    """Decode the (first frame of the) picture at ``path``, upright, its transparency laid over ``background``.

    CMYK goes through the file's ICC profile if it has a valid one. Damage *inside* the compressed data of a JPEG that
    its decoder repairs is not noticed; a cut is.

    Raises:
        ImageError: larger than ``max_pixels``, or a TIFF of which Pillow knows half.
        Exception: whatever Pillow finds wrong with the file; for ``decoding`` to name.
    """
    with opened(path, max_pixels) as image:
        info = _header(image)
        halved = raw_mode(image)
        image.load()
        # Again, as the EXIF of a PNG may follow its pixels, and Pillow has turned a TIFF and says so.
        orientation = _orientation(image)
        sideways = orientation >= 5
        info = replace(
            info,
            width=image.size[sideways],
            height=image.size[not sideways],
            exif_rotated=info.exif_rotated or orientation in _UPRIGHT,
            alpha="blended" if image.has_transparency_data else "none",
        )
        if info.depth == 16 and info.mode in ("RGB", "RGBA", "LA"):
            return info, turned(_wide(path, image, halved, background, max_pixels), orientation)
        turn = _UPRIGHT.get(orientation)
        return info, _pixels(image.transpose(turn) if turn is not None else image, info.channels, background)


@contextlib.contextmanager
def opened(path: Path | str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Open ``path``, refused by its header where it is no picture, too large, or a TIFF of which Pillow knows half."""
    with contextlib.ExitStack() as stack:
        # By its name, Pillow would map an uncompressed file into memory, and garble TIFFs that lie on their side.
        file = stack.enter_context(Path(path).open("rb"))
        try:
            image = stack.enter_context(Image.open(file, formats=FORMATS))
        except UnidentifiedImageError:
            if is_tiff(path):
                raise ImageError(path, MISSING) from None
            raise
        check_extent(path, *image.size, max_pixels)
        if image.mode in ("I", "F") or (image.format == "TIFF" and ";16" in raw_mode(image) and image.mode == "RGB"):
            raise ImageError(path, MISSING)
        yield image


def raw_mode(image: ImageFile.ImageFile) -> str:
    """Return how the pixels are stored, in Pillow's words."""
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _header(image: ImageFile.ImageFile) -> ImageInfo:
    stored = raw_mode(image)
    grey = image.mode.startswith("I;16") or image.mode in ("1", "L", "LA") or stored.startswith("LA")
    dtype = "uint16" if image.mode.startswith("I;16") or ";16" in stored else "uint8"
    orientation = _orientation(image)
    sideways = orientation >= 5 and image.format != "TIFF"
    width, height = image.size[::-1] if sideways else image.size
    return ImageInfo(
        width=width,
        height=height,
        format="JPEG" if image.format == "MPO" else str(image.format),
        mode=image.mode,
        channels=1 if grey else 3,
        stored=dtype,
        dtype=dtype,
        animated=image.format != "MPO" and bool(getattr(image, "is_animated", False)),
        exif_rotated=orientation in _UPRIGHT,
        alpha="blended" if image.has_transparency_data else "none",
    )


def _orientation(image: ImageFile.ImageFile) -> int:
    if image.format == "PNG" and not image.info.keys() & _PNG_EXIF:
        return 1  # Pillow would decode the whole file to look for it
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _pixels(image: Image.Image, channels: int, background: tuple[int, int, int]) -> np.ndarray:
    if image.mode.startswith("I;16"):
        wide = np.array(image).astype(np.uint16)
        if "transparency" in image.info:
            wide[wide == image.info["transparency"]] = luma(background) * 257
        return wide[..., None]
    if image.has_transparency_data:
        colour = background if channels == 3 else (luma(background),) * 3
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*colour, 255)), image.convert("RGBA"))
    elif image.mode == "CMYK":
        image = _from_cmyk(image)
    pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _wide(
    path: Path | str, image: ImageFile.ImageFile, stored: str, background: tuple[int, int, int], max_pixels: int
) -> np.ndarray:
    """Return a 16-bit PNG with more than one channel in 16 bits; ``image`` has been decoded, to the high bytes.

    A second pass has Pillow take the big-endian samples for little-endian ones, whose low bytes it keeps. Grey with
    alpha is four bytes per pixel, as RGBA of 8 bits is: it is decoded as that, and put together.
    """
    grey = stored.startswith("LA")
    with opened(path, max_pixels) as again:
        again.tile = [again.tile[0]._replace(args="RGBA" if grey else stored.replace("16B", "16L"))]
        again.load()
        low = np.asarray(again)
    if grey:
        pixels = low.astype(np.uint16)
        return blended(pixels[..., ::2] << 8 | pixels[..., 1::2], background)
    pixels = np.asarray(image).astype(np.uint16) << 8 | low
    if pixels.shape[2] == 4:
        return blended(pixels, background)
    if "transparency" in image.info:
        hidden = (pixels == np.array(image.info["transparency"])).all(axis=-1)
        pixels[hidden] = np.array(background, np.uint16) * 257
    return pixels


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    return image.convert("RGB")
