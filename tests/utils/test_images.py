import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from calotype.utils import images as images_module
from calotype.utils.images import (
    ImageError,
    ImageInfo,
    image_grid,
    inspect_image,
    load_image,
    lossless_path,
    read_image,
    save_image,
    save_png,
)

DRAWS = np.random.default_rng(0)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour_type: int, raw: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def png16(values: np.ndarray, extra: bytes = b"") -> bytes:
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return png(width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], rows, extra)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width: int = 48, height: int = 32) -> Image.Image:
    ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
    return Image.fromarray((ramp + DRAWS.uniform(0, 40, ramp.shape)).clip(0, 255).astype(np.uint8))


@pytest.fixture
def write(tmp_path: Path):
    def write(data: bytes, name: str = "image.png") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_reads_all_formats_whatever_the_extension(write, kind):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    path = write(encoded(Image.new("RGB", (5, 3), (200, 30, 90)), kind, **options))
    pixels = read_image(path)
    assert pixels.shape == (3, 5, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - (200, 30, 90)).max() <= (2 if kind == "JPEG" else 0)
    assert inspect_image(path).format == kind


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_cut_file_is_an_error_and_never_grey(write, kind, fraction):
    data = encoded(photo(200, 150), kind)
    path = write(data[: int(fraction * len(data))])
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.reason in ("truncated", "not an image") or "damaged" in caught.value.reason
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_a_jpeg_is_called_truncated(write):
    data = encoded(photo(200, 150), "JPEG")
    path = write(data[: len(data) // 2])
    with Image.open(path) as image:
        image.verify()  # passes: no validation
    with pytest.raises(ImageError, match=r"image\.png: truncated$"):
        read_image(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html><body>404</body></html>", "not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="1000000000" height="1"/>', "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_other_content_under_an_image_name(write, data, reason):
    with pytest.raises(ImageError) as caught:
        read_image(write(data))
    assert caught.value.reason == reason


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


def test_format_outside_the_allow_list(write):
    with pytest.raises(ImageError, match="not an image"):
        read_image(write(encoded(Image.new("RGB", (4, 4)), "PPM"), "image.ppm"))


@pytest.mark.parametrize(("width", "height"), [(40_000, 40_000), (11_000, 11_000)])
def test_bombs_are_refused_by_their_header(write, width, height):
    path = write(png(width, height, 8, 2, bytes(100)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for look in (inspect_image, read_image):
            with pytest.raises(ImageError, match="is more than 100 megapixels"):
                look(path)


def test_own_pixel_cap(write):
    path = write(encoded(Image.new("L", (100, 50)), "PNG"))
    assert read_image(path, max_pixels=5000).shape == (50, 100, 1)
    with pytest.raises(ImageError, match=r"100x50 is more than 0\.0049 megapixels"):
        read_image(path, max_pixels=4900)


def test_compressed_text_bomb(write):
    text = b"Comment\0\0" + zlib.compress(bytes(50 * 2**20))
    with pytest.raises(ImageError):
        read_image(write(png(1, 1, 8, 0, b"\0\0", chunk(b"zTXt", text))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF LZW"])
def test_exif_orientation(write, kind, orientation):
    stored = np.zeros((16, 32), np.uint8)
    stored[:8, :16] = 255  # top left, as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "TIFF LZW": {"compression": "tiff_lzw"}}.get(kind, {})
    path = write(encoded(Image.fromarray(stored).convert("RGB"), kind.split()[0], exif=exif, **options))
    pixels = read_image(path)[..., 0] > 127
    # where the stored top left corner belongs: EXIF 2.32, 4.6.4.A, tag 274
    corner = {1: "tl", 2: "tr", 3: "br", 4: "bl", 5: "tl", 6: "tr", 7: "br", 8: "bl"}[orientation]
    height, width = pixels.shape
    assert (width, height) == ((16, 32) if orientation >= 5 else (32, 16))
    rows = slice(0, height // 2) if corner[0] == "t" else slice(height // 2, None)
    columns = slice(0, width // 2) if corner[1] == "l" else slice(width // 2, None)
    assert pixels[rows, columns].all()
    assert pixels.sum() == 128
    info = inspect_image(path)
    assert (info.width, info.height, info.exif_rotated) == (width, height, orientation != 1)
    assert load_image(path)[0] == info


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_grey_tiffs_on_their_side(write, orientation, dtype, compression):
    stored = DRAWS.integers(0, 255, (5, 9)).astype(dtype)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(encoded(Image.fromarray(stored), "TIFF", exif=exif, compression=compression))
    info, pixels = load_image(path)
    assert (info.width, info.height, info.exif_rotated) == (5, 9, True)
    assert info == inspect_image(path)
    turn = {5: stored.T, 6: np.rot90(stored, -1), 7: np.rot90(stored, 2).T, 8: np.rot90(stored)}
    assert np.array_equal(pixels[..., 0], turn[orientation])


def test_16_bit_grey_png_keeps_its_depth(write):
    values = DRAWS.integers(0, 65536, (7, 5, 1))
    path = write(png16(values))
    pixels = read_image(path)
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, values)
    info = inspect_image(path)
    assert (info.channels, info.depth, info.stored, info.dtype) == (1, 16, "uint16", "uint16")
    assert str(info) == "PNG I;16 16-bit"


def test_16_bit_grey_transparent_value(write):
    values = np.array([[[1000], [2000]]])
    pixels = read_image(write(png16(values, chunk(b"tRNS", struct.pack(">H", 1000)))))
    assert pixels[0, :, 0].tolist() == [65535, 2000]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_and_alpha_keep_their_depth(write, channels):
    values = DRAWS.integers(0, 65536, (7, 5, channels))
    if channels != 3:
        values[..., -1] = 65535
    path = write(png16(values))
    info, pixels = load_image(path)
    colours = 1 if channels == 2 else 3
    assert (info.channels, info.depth, info.dtype) == (colours, 16, "uint16")
    assert info == inspect_image(path)
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, values[..., :colours])


@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_in_filtered_and_interlaced_rows(write, channels):
    """Every filter of the specification (9.2), and Adam7, which has its own small rows."""
    values = DRAWS.integers(0, 65536, (6, 9, channels)).astype(np.uint16)
    values[..., 3:] = 65535
    header = struct.pack(">IIBBBBB", 9, 6, 16, 2 if channels == 3 else 6, 0, 0, 1)
    passes = [values[y::dy, x::dx] for y, x, dy, dx in ADAM7]
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part.astype(">u2"))
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(read_image(write(b"\x89PNG\r\n\x1a\n" + data)), values[..., :3])

    rows, above = b"", np.zeros(9 * 2 * channels, int)
    for number, row in enumerate(values.astype(">u2")):
        lanes = np.frombuffer(row.tobytes(), np.uint8).astype(int)
        left, corner = (np.concatenate([np.zeros(2 * channels, int), each[: -2 * channels]]) for each in (lanes, above))
        kind = number % 5
        guess = [0 * lanes, left, above, (left + above) // 2, paeth(left, above, corner)][kind]
        rows += bytes([kind]) + ((lanes - guess) % 256).astype(np.uint8).tobytes()
        above = lanes
    assert np.array_equal(read_image(write(png(9, 6, 16, 2 if channels == 3 else 6, rows))), values[..., :3])


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    near = [np.abs(left + above - corner - each) for each in (left, above, corner)]
    return np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], above, corner))


def test_16_bit_alpha_is_blended_in_16_bits(write):
    path = write(png16(np.array([[[10_001, 20_002, 30_003, 32_768]]])))
    expected = [(value * 32_768 + 65_535 * 32_767) / 65_535 for value in (10_001, 20_002, 30_003)]
    assert np.abs(read_image(path)[0, 0] - expected).max() <= 0.51
    grey = write(png16(np.array([[[10_001, 0], [10_001, 65_535]]])))
    assert read_image(grey, background=(0, 0, 0))[0, :, 0].tolist() == [0, 10_001]
    assert inspect_image(grey).alpha == "blended"


def test_16_bit_transparent_colour(write):
    values = np.array([[[1000, 2000, 3000], [1000, 2000, 3001]]])
    path = write(png16(values, chunk(b"tRNS", struct.pack(">HHH", 1000, 2000, 3000))))
    assert read_image(path, background=(1, 2, 3))[0].tolist() == [[257, 514, 771], [1000, 2000, 3001]]


def test_16_bit_colour_is_turned_upright(write):
    values = DRAWS.integers(0, 65536, (4, 7, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(png16(values, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))))
    info, pixels = load_image(path)
    assert (info.height, info.width, info.exif_rotated) == (7, 4, True)
    assert np.array_equal(pixels, np.rot90(values, -1))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_16_bit_grey_tiff(write, compression):
    values = DRAWS.integers(0, 65536, (7, 5)).astype(np.uint16)
    path = write(encoded(Image.fromarray(values), "TIFF", compression=compression))
    pixels = read_image(path)
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels[..., 0], values)
    assert inspect_image(path).dtype == "uint16"


def test_cmyk_without_profile(write):
    path = write(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100))
    assert np.abs(read_image(path).astype(int) - (255, 0, 0)).max() <= 2


def cmyk_profile(lab: tuple[int, int, int]) -> bytes:
    """A printer profile (ICC.1:2001-04, lut8Type) that maps every ink to one colour."""
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + identity * 4 + bytes(lab) * 16 + identity * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    start = 128 + 4 + 2 * 12
    table = struct.pack(">I4sII4sII", 2, b"A2B0", start, len(lut), b"wtpt", start + len(lut), len(white))
    header = struct.pack(">I4sI4s4s4s", start + len(lut) + len(white), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + lut + white


def test_cmyk_with_profile(write):
    path = write(
        encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", icc_profile=cmyk_profile((255, 128, 128)))
    )
    assert read_image(path).min() >= 253  # L* = 100 is white, whatever the ink


def test_cmyk_with_a_broken_profile_falls_back(write):
    path = write(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100, icc_profile=b"junk"))
    assert np.abs(read_image(path).astype(int) - (255, 0, 0)).max() <= 2
    with pytest.raises(ImageCms.PyCMSError):
        ImageCms.getProfileName(io.BytesIO(b"junk"))


def test_palette_transparency_takes_the_background(write):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    path = write(encoded(image, "PNG", transparency=0))
    assert read_image(path)[0].tolist() == [[255, 255, 255], [0, 255, 0]]
    assert read_image(path, background=(10, 20, 30))[0].tolist() == [[10, 20, 30], [0, 255, 0]]
    assert inspect_image(path).alpha == "blended"


def test_alpha_is_blended(write):
    rgba = write(encoded(Image.new("RGBA", (1, 1), (200, 100, 0, 51)), "PNG"))
    assert read_image(rgba, background=(0, 0, 100))[0, 0].tolist() == [40, 20, 80]
    grey = write(encoded(Image.new("LA", (1, 1), (100, 51)), "PNG"))
    assert read_image(grey)[0, 0].tolist() == [224]
    keyed = write(encoded(Image.new("L", (1, 1), 7), "PNG", transparency=7))
    assert read_image(keyed, background=(0, 0, 0))[0, 0].tolist() == [0]


def test_one_bit_images_are_grey(write):
    path = write(encoded(Image.new("1", (3, 2), 1), "PNG"))
    assert np.array_equal(read_image(path), np.full((2, 3, 1), 255, np.uint8))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation(write, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}
    path = write(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert inspect_image(path).animated
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]


def test_a_phone_picture_with_a_second_one_inside_is_a_plain_jpeg(write):
    frames = [Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8))]
    info = inspect_image(write(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:]), "image.jpg"))
    assert (info.format, info.animated) == ("JPEG", False)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_mutated_files_are_images_or_image_errors(write, kind):
    data, draws = encoded(photo(), kind), np.random.default_rng(1)
    errors = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(60):
            mutated = bytearray(data)
            for position in draws.integers(0, len(data), draws.integers(1, 6)):
                mutated[position] ^= 1 << draws.integers(8)
            cut = draws.integers(1, len(data)) if draws.random() < 0.3 else len(data)
            path = write(bytes(mutated[:cut]))
            try:
                info, pixels = load_image(path)
            except ImageError as error:
                errors.append(error)
            else:
                assert pixels.shape == (info.height, info.width, info.channels)
    assert len(errors) > 5
    assert all(error.reason and len(str(error).splitlines()) == 1 for error in errors)


@pytest.mark.parametrize(
    "error",
    [
        SyntaxError("x"),
        struct.error("x"),
        zlib.error("x"),
        IndexError("x"),
        TypeError("x"),
        MemoryError(),
        EOFError(),
        OverflowError("x"),
        UserWarning("x"),
        Image.DecompressionBombError("x"),
    ],
)
def test_whatever_a_decoder_raises_is_an_image_error(write, monkeypatch, error):
    path = write(encoded(photo(), "PNG"))
    monkeypatch.setattr(Image.Image, "load", lambda image: (_ for _ in ()).throw(error))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: (_ for _ in ()).throw(error))
    with pytest.raises(ImageError):
        read_image(path)


def test_exif_behind_the_pixels_of_a_png(write):
    exif = Image.Exif()
    exif[0x0112] = 6
    behind = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    data = encoded(Image.new("L", (8, 4)), "PNG")
    path = write(data[:-12] + behind + data[-12:])
    info, pixels = load_image(path)
    assert pixels.shape == (info.height, info.width, info.channels) == (8, 4, 1)
    assert info.exif_rotated


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3)])
def test_save_png_8_bits(tmp_path, shape):
    pixels = DRAWS.integers(0, 256, shape).astype(np.uint8)
    save_png(tmp_path / "a" / "image.png", pixels)
    assert np.array_equal(read_image(tmp_path / "a" / "image.png"), pixels.reshape(5, 4, -1))


def test_save_png_16_bits(tmp_path):
    path = tmp_path / "image.png"
    for channels in (1, 3):
        pixels = DRAWS.integers(0, 65536, (5, 4, channels)).astype(np.uint16)
        save_png(path, pixels)
        assert path.read_bytes() == png16(pixels)
        assert np.array_equal(read_image(path), pixels)


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros(4, np.uint8)])
def test_save_png_refuses_what_a_png_is_not(tmp_path, pixels):
    with pytest.raises(ValueError, match="a PNG is"):
        save_png(tmp_path / "image.png", pixels)


def test_image_grid():
    images = torch.stack([torch.full((3, 2, 4), value) for value in (-1.0, 0.0, 5.0)])
    grid = image_grid(images, columns=2, padding=1)
    assert grid.shape == (2 * 3 + 1, 2 * 5 + 1, 3)
    assert grid.dtype == np.uint8
    assert (grid[1:3, 1:5] == 0).all()
    assert (grid[1:3, 6:10] == 128).all()
    assert (grid[4:6, 1:5] == 255).all()
    inside = np.zeros_like(grid, bool)
    inside[1:3, 1:5] = inside[1:3, 6:10] = True
    assert (grid[~inside] == 255).all()


@pytest.mark.parametrize(("channels", "shown"), [(1, [0]), (2, [0]), (3, [0, 1, 2]), (4, [0, 1, 2]), (13, [0, 1, 2])])
def test_a_grid_shows_what_people_can_see(channels, shown):
    levels = torch.linspace(-1, 1, channels).view(1, channels, 1, 1).expand(2, channels, 3, 3)
    grid = image_grid(levels, columns=2)
    assert grid.shape == (7, 12, len(shown))
    assert grid[3, 3].tolist() == (levels[0, shown, 0, 0].add(1) * 127.5).round().tolist()


def info(kind: str, **changes: object) -> ImageInfo:
    known = {"width": 6, "height": 5, "mode": "", "channels": 3, "stored": "uint8", "dtype": "uint8"}
    return ImageInfo(**(known | {"format": kind} | changes))


@pytest.mark.parametrize(
    ("name", "source", "shape", "dtype", "written"),
    [
        ("a.png", "PNG", (5, 6, 3), "uint8", "a.png"),
        ("a.png", "PNG", (5, 6, 1), "uint16", "a.png"),
        ("a.jpg", "JPEG", (5, 6, 3), "uint8", "a.png"),
        ("a.jpg", "PNG", (5, 6, 3), "uint8", "a.png"),
        ("a.TIF", "TIFF", (5, 6, 3), "uint8", "a.TIF"),
        ("a.tiff", "TIFF", (5, 6, 4), "uint16", "a.tiff"),
        ("a.tif", "TIFF", (5, 6, 1), "int16", "a.tif"),
        ("a.npy", "NPY", (15, 16, 13), "float32", "a.npy"),
        ("a.b.webp", "WEBP", (5, 6, 1), "uint8", "a.b.png"),
        ("a.png", None, (5, 6, 2), "uint8", "a.tif"),
        ("a.png", None, (5, 6, 3), "float32", "a.tif"),
        ("a.png", None, (5, 6, 3), "uint16", "a.png"),
    ],
)
def test_what_is_saved_comes_back(tmp_path, name, source, shape, dtype, written):
    pixels = (DRAWS.random(shape) * 250).astype(dtype)
    like = source and info(source, channels=shape[2])
    assert lossless_path(tmp_path / name, pixels, like) == tmp_path / written
    path = save_image(tmp_path / name, pixels, like)
    assert path == tmp_path / written
    back, again = load_image(path)
    assert again.dtype == dtype
    assert np.array_equal(again, pixels)
    assert source in (None, "JPEG", "WEBP", back.format)


def test_saving_without_tifffile(tmp_path, monkeypatch):
    monkeypatch.setattr(images_module, "has_tifffile", lambda: False)
    for shape, dtype, name in (((5, 6, 3), "uint8", "x.png"), ((5, 6, 4), "uint8", "x.npy")):
        path = save_image(tmp_path / "x.tif", np.ones(shape, dtype), info("TIFF"))
        assert path.name == name
        assert np.array_equal(read_image(path), np.ones(shape, dtype))
