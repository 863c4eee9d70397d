import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from calotype.utils import tiff
from calotype.utils.image_info import ImageInfo
from calotype.utils.images import ImageError, inspect_image, load_image, read_image, save_image

DRAWS = np.random.default_rng(0)
FLOAT = (3, 3, 3, 3)  # SampleFormat, TIFF 6.0, section 19
FOUR = {"photometric": "minisblack", "planarconfig": "contig"}


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype.startswith("float"):
        return (DRAWS.standard_normal(shape) * 100).astype(dtype)
    limits = np.iinfo(dtype)
    return DRAWS.integers(max(limits.min, -(2**20)), min(limits.max, 2**20), shape, endpoint=True).astype(dtype)


@pytest.fixture
def write(tmp_path: Path):
    def write(data: np.ndarray, **options: object) -> Path:
        tifffile.imwrite(tmp_path / "image.tif", data, **options)
        return tmp_path / "image.tif"

    return write


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 13])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_any_channels_and_depth(write, dtype, channels, planar):
    data = values((9, 11, channels), dtype)
    stored = data if planar == "contig" else np.moveaxis(data, -1, 0)
    path = write(stored if channels > 1 else data[..., 0], photometric="minisblack", planarconfig=planar)
    info, pixels = load_image(path)
    assert pixels.dtype == dtype
    assert np.array_equal(pixels, data)
    assert (info.format, info.width, info.height, info.channels, info.dtype) == ("TIFF", 11, 9, channels, dtype)
    assert info == inspect_image(path)
    assert (info.animated, info.alpha) == (False, "none")


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 32)}, {"rowsperstrip": 7}, {"tile": (16, 16), "compression": 8}])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_byte_orders_tiles_and_strips(write, byteorder, bigtiff, layout, dtype):
    data = values((40, 50, 4), dtype)
    assert np.array_equal(read_image(write(data, byteorder=byteorder, bigtiff=bigtiff, **FOUR, **layout)), data)


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
@pytest.mark.parametrize(("dtype", "predictor"), [("uint8", 2), ("uint16", 2), ("int16", 2), ("uint16", 1)])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_compression_and_differences(write, compression, dtype, predictor, byteorder):
    data = values((20, 30, 4), dtype)
    path = write(data, compression=compression, predictor=predictor, byteorder=byteorder, **FOUR)
    assert np.array_equal(read_image(path), data)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_floating_point_differences(write, byteorder):
    """TIFF Technical Note 3: the bytes of a row from high to low, each as its difference to the channel's last."""
    data = values((20, 30, 4), "float32")
    lanes = data.astype(">f4").view(np.uint8).reshape(20, 30 * 4, 4).swapaxes(1, 2).reshape(20, -1).astype(int)
    lanes[:, 4:] -= lanes[:, :-4].copy()
    strip = zlib.compress((lanes % 256).astype(np.uint8).tobytes())
    path = write(data.view(np.int32), byteorder=byteorder, compression="zlib", predictor=2, **FOUR)
    with_tag(with_strip(path, strip, 8, byteorder), 317, 3, f"{byteorder}H")
    assert np.array_equal(read_image(with_tag(path, 339, FLOAT, f"{byteorder}4H")), data)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_packed_bits(write, byteorder):
    """TIFF 6.0, section 9; here of literal runs alone, but for a row of zeros."""
    data = values((20, 30, 4), "uint16")
    data[7] = 0
    path = write(data, byteorder=byteorder, **FOUR)
    strip = b""
    for row in data.astype(f"{byteorder}u2"):
        line = row.tobytes()
        literal = b"".join(bytes([len(line[at : at + 100]) - 1]) + line[at : at + 100] for at in range(0, 240, 100))
        strip += literal if row.any() else bytes([256 - 119, 0]) * 2
    assert np.array_equal(read_image(with_strip(path, strip, 32773, byteorder)), data)


def with_strip(path: Path, strip: bytes, compression: int, byteorder: str) -> Path:
    """Put a compressed strip in the place of a file's only one."""
    with tifffile.TiffFile(path) as file:
        places = {code: file.pages.first.tags[code].valueoffset for code in (259, 273, 279)}
    data = bytearray(path.read_bytes() + strip)
    struct.pack_into(f"{byteorder}H", data, places[259], compression)
    struct.pack_into(f"{byteorder}I", data, places[273], len(data) - len(strip))
    struct.pack_into(f"{byteorder}I", data, places[279], len(strip))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("predictor", [1, 2])
def test_lzw(tmp_path, predictor):
    data = values((30, 20, 4), "uint8")
    Image.fromarray(data).save(tmp_path / "image.tif", compression="tiff_lzw", tiffinfo={317: predictor})
    with tifffile.TiffFile(tmp_path / "image.tif") as file:
        assert (int(file.pages.first.compression), file.pages.first.predictor) == (5, predictor)
    assert np.array_equal(read_image(tmp_path / "image.tif", alpha="kept"), data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(write, tmp_path, orientation):
    grey = np.zeros((8, 16), np.uint16)
    grey[:4, :8] = 60_000
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray((grey >> 8).astype(np.uint8)).save(tmp_path / "pillow.tif", exif=exif)
    data = np.repeat(grey[..., None], 4, axis=2)
    path = write(data, extratags=[(274, 3, 1, orientation, True)], **FOUR)
    info, pixels = load_image(path)
    assert pixels.shape == (info.height, info.width, 4)
    assert info.exif_rotated == (orientation != 1)
    assert np.array_equal(pixels[..., 2] > 0, read_image(tmp_path / "pillow.tif")[..., 0] > 0)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint32", "int64", "int8"])
def test_other_numbers_become_float32_if_they_fit(write, dtype):
    data = values((6, 5), dtype)
    info, pixels = load_image(write(data))
    assert (info.stored, info.dtype, pixels.dtype) == (dtype, "float32", np.float32)
    assert np.array_equal(pixels[..., 0], data.astype(np.float32))
    assert str(info) == f"TIFF 1 channel {dtype}"


def test_integers_beyond_float32_and_numbers_that_are_not_finite(write):
    with pytest.raises(ImageError, match="up to 16777217, which float32 does not hold exactly"):
        read_image(write(np.full((4, 4), 2**24 + 1, np.uint32)))
    assert read_image(write(np.full((4, 4), 2**24, np.uint32))).max() == 2**24
    for bad in (np.nan, np.inf, 1e300):
        data = np.ones((4, 4))
        data[1, 2] = bad
        with pytest.raises(ImageError, match="1 of 16 pixels are not finite"):
            read_image(write(data))
    with pytest.raises(ImageError, match="holds complex64"):
        read_image(write(np.ones((4, 4), np.complex64)))


def test_white_is_zero(write):
    data = values((5, 6), "uint16")
    assert np.array_equal(read_image(write(data, photometric="miniswhite"))[..., 0], 65535 - data)


def test_opacity_is_laid_over_the_background_or_kept(write):
    data = np.array([[[200, 100, 0, 51]]], np.uint8)
    path = write(data, photometric="rgb", extrasamples=["unassalpha"])
    info, pixels = load_image(path, background=(0, 0, 100))
    assert (info.channels, info.alpha, pixels[0, 0].tolist()) == (3, "blended", [40, 20, 80])
    info, pixels = load_image(path, alpha="kept")
    assert (info.channels, info.alpha, pixels[0, 0].tolist()) == (4, "kept", [200, 100, 0, 51])
    path = write(data, photometric="rgb", extrasamples=["assocalpha"])
    assert read_image(path, background=(10, 20, 30))[0, 0].tolist() == [208, 116, 24]
    grey = np.array([[[10_001, 65_535], [10_001, 0]]], np.uint16)
    path = write(grey, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    assert read_image(path)[0, :, 0].tolist() == [10_001, 65_535]


def test_channels_that_are_not_tagged_as_opacity_are_never_blended(write):
    data = values((5, 6, 4), "uint8")
    for options in (FOUR, {"photometric": "rgb", "extrasamples": ["unspecified"]}):
        info, pixels = load_image(write(data, **options))
        assert (info.channels, info.alpha) == (4, "none")
        assert np.array_equal(pixels, data)
    floats = values((5, 6, 4), "float32")
    info, pixels = load_image(write(floats, photometric="rgb", extrasamples=["unassalpha"]))
    assert (info.alpha, pixels.shape) == ("none", (5, 6, 4))


@pytest.mark.parametrize("shape", [(13, 40, 50), (40, 50, 13)])
def test_channels_that_tifffile_writes_as_pages_by_default(write, shape):
    data = values(shape, "uint16")
    path = write(data)
    info, pixels = load_image(path)
    assert len(tifffile.TiffFile(path).pages) == shape[0]
    assert (info.channels, info.height, info.width, info.animated) == (13, 40, 50, False)
    assert np.array_equal(pixels, data if shape[2] == 13 else np.moveaxis(data, 0, -1))


@pytest.mark.parametrize("options", [{"imagej": True}, {"ome": True}, {}])
def test_named_axes(write, options):
    data = values((3, 20, 30), "uint16")
    stack = write(data, photometric="minisblack", metadata={"axes": "CYX"}, **options)
    assert np.array_equal(read_image(stack), np.moveaxis(data, 0, -1))
    for axes in ("ZYX", "TYX"):
        info, pixels = load_image(write(data, photometric="minisblack", metadata={"axes": axes}, **options))
        assert info.animated
        assert np.array_equal(pixels, data[0][..., None])


def test_an_ome_file_does_not_name_other_files(tmp_path):
    other = values((20, 30), "uint16")
    tifffile.imwrite(tmp_path / "other.tif", other)
    xml = tifffile.OmeXml()
    xml.addimage("uint16", (2, 20, 30), (2, 1, 1, 20, 30, 1), axes="CYX")
    text = xml.tostring().replace("<TiffData", '<TiffData><UUID FileName="other.tif">u</UUID></TiffData><TiffData')
    first = values((20, 30), "uint16")
    tifffile.imwrite(tmp_path / "image.ome.tif", first, description=text, metadata=None)
    assert np.array_equal(read_image(tmp_path / "image.ome.tif")[..., 0], first)


def test_frames_of_colour_are_frames(write):
    data = values((5, 20, 30, 3), "uint16")
    info, pixels = load_image(write(data, photometric="rgb"))
    assert info.animated
    assert np.array_equal(pixels, data[0])


def test_without_tifffile_pillow_reads_what_it_can(write, monkeypatch):
    monkeypatch.setattr(tiff, "has_tifffile", lambda: False)
    for dtype, shape in (("uint8", (5, 6, 3)), ("uint16", (5, 6)), ("uint8", (5, 6))):
        data = values(shape, dtype)
        assert np.array_equal(read_image(write(data)).reshape(shape), data)
    for dtype, shape in (("uint16", (5, 6, 3)), ("float32", (5, 6)), ("int16", (5, 6)), ("float32", (5, 6, 3))):
        for look in (inspect_image, read_image):
            with pytest.raises(ImageError, match=r"needs the package tifffile: pip install 'calotype\[data\]'"):
                look(write(values(shape, dtype), photometric="rgb" if len(shape) == 3 else "minisblack"))


def test_writing_without_tifffile_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "has_tifffile", lambda: False)
    with pytest.raises(ImageError, match="tifffile"):
        tiff.save_tiff(tmp_path / "x.tif", np.zeros((4, 4, 4), np.uint8), None)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize(
    ("layout", "alpha", "channels"),
    [
        ("hwc", "none", 4),
        ("chw", "none", 4),
        ("hw", "none", 1),
        ("hwc", "none", 3),
        ("chw", "none", 3),
        ("hwc", "kept", 4),
        ("hwc", "kept", 2),
    ],
)
def test_written_files_are_as_the_source_was(tmp_path, dtype, layout, alpha, channels):
    data = values((9, 11, channels), dtype)
    like = ImageInfo(
        width=11, height=9, format="TIFF", mode="", channels=channels, stored=dtype, dtype=dtype, alpha=alpha,
        layout=layout,
    )  # fmt: skip
    path = save_image(tmp_path / "x.tif", data, like)
    info, pixels = load_image(path, alpha="kept")
    assert np.array_equal(pixels, data)
    plain = dtype in ("uint8", "uint16") and channels == 1  # read by Pillow
    assert plain or (dtype == "uint8" and channels == 3) or info.layout == layout
    assert info.alpha == (alpha if dtype in ("uint8", "uint16") else "none")
    stored = tifffile.imread(path)
    assert stored.shape == {"hwc": (9, 11, channels), "chw": (channels, 9, 11), "hw": (9, 11)}[layout]


def with_tag(path: Path, code: int, value: int | tuple[int, ...], kind: str = "<I") -> Path:
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.tags[code].valueoffset
    data = bytearray(path.read_bytes())
    struct.pack_into(kind, data, place, *np.atleast_1d(value).tolist())
    path.write_bytes(data)
    return path


def test_absurd_dimensions_are_refused_by_the_header(write):
    for code, value, expected in (
        (256, 2**31, "megapixels"),
        (257, 2**31, "megapixels"),
        (257, 0, "no pixels|damaged"),
    ):
        path = with_tag(write(values((9, 11, 4), "uint16"), **FOUR), code, value)
        for look in (inspect_image, read_image):
            with pytest.raises(ImageError, match=expected) as caught:
                look(path)
            assert "\n" not in str(caught.value)
    path = with_tag(with_tag(write(values((9, 11, 4), "float32"), **FOUR), 256, 9000), 257, 11000)
    with pytest.raises(ImageError, match=r"9000x11000 with 4 channels of float32 is more than 800 MB"):
        read_image(path)


def test_damaged_strips(write):
    data = values((40, 50, 4), "uint16")
    path = write(data, **FOUR)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)
    path = with_tag(write(data, **FOUR), 279, 100)
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)
    path = with_tag(write(data, **FOUR), 273, 2**31)
    with pytest.raises(ImageError, match=r"truncated|damaged"):
        read_image(path)
    path = with_tag(write(data, **FOUR), 278, 3)  # more strips than offsets
    with pytest.raises(ImageError, match=r"damaged \(1 strips or tiles, not 14\)"):
        read_image(path)
    path = write(data, compression="zlib", **FOUR)
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[0]
    spoilt = bytearray(path.read_bytes())
    spoilt[start + 500] ^= 0xFF
    path.write_bytes(spoilt)
    with pytest.raises(ImageError, match=r"damaged|truncated"):
        read_image(path)


def test_a_bomb_is_unpacked_no_further_than_it_promises(write):
    import tracemalloc

    path = with_strip(write(np.zeros((40, 50, 4), np.uint16), **FOUR), zlib.compress(bytes(2**28)), 8, "<")
    tracemalloc.start()
    assert read_image(path).max() == 0
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_a_compression_that_is_not_read(write):
    path = with_tag(write(values((9, 11, 4), "uint16"), **FOUR), 259, 34712, "<H")
    with pytest.raises(ImageError, match="save it uncompressed or with deflate"):
        read_image(path)


def test_a_circle_of_pages_ends(write):
    path = write(values((9, 11, 4), "uint16"), **FOUR)
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * tags, start)
    path.write_bytes(data)
    assert read_image(path).shape == (9, 11, 4)


@pytest.mark.parametrize("options", [FOUR, {**FOUR, "compression": "zlib", "predictor": 2}, {}])
def test_mutated_files_are_images_or_image_errors(write, options):
    path = write(values((4, 20, 30) if not options else (20, 30, 4), "int16"), **options)
    data, draws = path.read_bytes(), np.random.default_rng(1)
    errors = []
    for _ in range(80):
        mutated = bytearray(data)
        limit = 400 if draws.random() < 0.7 else len(data)
        for position in draws.integers(0, limit, draws.integers(1, 6)):
            mutated[position] ^= 1 << draws.integers(8)
        path.write_bytes(bytes(mutated[: draws.integers(1, len(data)) if draws.random() < 0.2 else len(data)]))
        try:
            info, pixels = load_image(path)
        except ImageError as error:
            errors.append(error)
        else:
            assert pixels.shape == (info.height, info.width, info.channels)
    assert errors
    assert all(error.reason and len(str(error).splitlines()) == 1 for error in errors)
