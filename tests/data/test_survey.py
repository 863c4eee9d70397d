from pathlib import Path

import numpy as np
import pytest
import tifffile

from calotype.data.folder import scan_folder
from calotype.data.pixel_format import PixelFormat
from calotype.utils.errors import UserError
from calotype.utils.images import save_png

DRAWS = np.random.default_rng(0)
FOUR = {"photometric": "minisblack", "planarconfig": "contig"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def tiffs(
    folder: Path, count: int, shape: tuple[int, ...], dtype: str = "uint8", scale: float = 250, **options
) -> None:
    for i in range(count):
        name = f"{'x'.join(map(str, shape))}-{dtype}-{i}.tif"
        tifffile.imwrite(folder / name, (DRAWS.random(shape) * scale).astype(dtype), **options)


def test_four_channels_of_each_depth(folder):
    tiffs(folder, 9, (20, 30, 4), "uint16", 65_535, **FOUR)
    scan = scan_folder(folder)
    assert scan.images.pixel_format == PixelFormat(channels=4, dtype="uint16", high=65535.0)
    assert scan.notes == []
    assert scan.images.pixels(3).shape == (20, 30, 4)
    assert scan.images.pixels(3).dtype == np.uint16


def test_a_fourth_channel_that_is_no_opacity_stays_whatever_its_tag_says(folder):
    tiffs(folder, 9, (20, 30, 4))  # tifffile tags it as opacity
    scan = scan_folder(folder)
    assert scan.images.pixel_format == PixelFormat(channels=4)
    assert scan.images.pixels(0).shape == (20, 30, 4)
    assert scan.notes == [
        "9 of 9 files: with a last channel that is tagged as opacity but does not look like it, kept as a channel"
    ]


@pytest.mark.parametrize("hidden", [0.0, 0.7])
def test_a_fourth_channel_that_looks_like_opacity_is_one(folder, hidden):
    for i in range(9):
        pixels = DRAWS.integers(0, 256, (20, 30, 4)).astype(np.uint8)
        pixels[..., 3] = np.where(DRAWS.random((20, 30)) < hidden, 0, 255)
        tifffile.imwrite(folder / f"{i}.tif", pixels)
    scan = scan_folder(folder, background=(1, 2, 3))
    assert scan.images.pixel_format == PixelFormat()
    assert "9 of 9 files: with transparency, laid over the colour (1, 2, 3)" in scan.notes
    assert np.array_equal(scan.images.pixels(8), np.where(pixels[..., 3:] == 255, pixels[..., :3], [1, 2, 3]))


def test_mostly_zero_is_not_opacity(folder):
    for i in range(9):
        pixels = DRAWS.integers(0, 256, (20, 30, 4)).astype(np.uint8)
        pixels[..., 3] *= DRAWS.random((20, 30)) < 0.2  # an edge map
        tifffile.imwrite(folder / f"{i}.tif", pixels)
    assert scan_folder(folder).images.pixel_format.channels == 4


def test_other_channels_and_types_than_most_files_have_are_left_out_with_their_reason(folder):
    tiffs(folder, 9, (20, 30, 4), "float32", 1, **FOUR)
    tiffs(folder, 2, (20, 30, 5), "float32", 1, **FOUR)
    tiffs(folder, 1, (20, 30, 4), "uint16", **FOUR)
    save_png(folder / "grey.png", np.zeros((20, 30), np.uint8))
    bad = np.zeros((20, 30, 4), np.float32)
    bad[3, 4, 1] = np.nan
    tifffile.imwrite(folder / "bad.tif", bad, **FOUR)
    scan = scan_folder(folder)
    assert len(scan.images) == len(scan.infos) == 9
    assert scan.images.pixel_format == PixelFormat(channels=4, dtype="float32", high=1.0)
    most = "where most files have 4 channels of float32"
    assert scan.ignored == [
        ("20x30x4-uint16-0.tif", f"4 channels of uint16, {most}"),
        ("20x30x5-float32-0.tif", f"5 channels of float32, {most}"),
        ("20x30x5-float32-1.tif", f"5 channels of float32, {most}"),
        ("bad.tif", "1 of 2400 pixels are not finite (NaN, or beyond float32)"),
        ("grey.png", f"1 channel of uint8, {most}"),
    ]


def test_too_few_that_go_together(folder):
    for channels in (4, 5, 6):
        tiffs(folder, 5, (20, 30, channels), **FOUR)
    with pytest.raises(UserError, match=r"holds only 5 readable images.*10 files were left out.*5 channels of uint8"):
        scan_folder(folder)


def test_grey_and_colour_of_16_bits_and_floats_go_together(folder):
    tiffs(folder, 5, (20, 30), "uint16", 65_535)
    tiffs(folder, 5, (20, 30, 3), "uint16", 65_535, photometric="rgb")
    images = scan_folder(folder).images
    assert images.pixel_format == PixelFormat(channels=3, dtype="uint16", high=65535.0)
    assert all(images.pixels(i).shape == (20, 30, 3) for i in range(10))


def test_the_range_is_that_of_all_files(folder):
    tiffs(folder, 8, (20, 30), "float32", 5)
    tifffile.imwrite(folder / "extreme.tif", np.linspace(-7, 40, 600, dtype=np.float32).reshape(20, 30))
    scan = scan_folder(folder)
    assert scan.images.pixel_format == PixelFormat(channels=1, dtype="float32", low=-7.0, high=40.0)
    assert scan.notes == ["values from -7 to 40: -7 to 40 is mapped to [-1, 1]"]
    loaded = scan.images.pixel_format.to_model(scan.images.pixels(8))
    assert (float(loaded.min()), float(loaded.max())) == pytest.approx((-1, 1))


def test_channels_of_different_units(folder):
    for i in range(9):
        bands = DRAWS.random((20, 30, 4)) * [1, 300, 1, 1] - [0, 100, 0, 0]
        np.save(folder / f"{i}.npy", bands.astype(np.float32))
    pixel_format = scan_folder(folder).images.pixel_format
    assert pixel_format.low[0] == 0
    assert pixel_format.low[1] == pytest.approx(-100, abs=1)
    values = pixel_format.to_model(scan_folder(folder).images.pixels(0))
    assert values.amin((0, 1)).max() < -0.9
    assert values.amax((0, 1)).min() > 0.9


def test_numbers_of_other_types_are_told(folder):
    for i in range(9):
        np.save(folder / f"{i}.npy", DRAWS.random((20, 30)))
    scan = scan_folder(folder)
    assert "9 of 9 files: of float64, read as float32" in scan.notes
    assert str(scan.infos[0]) == "NPY 1 channel float64"


def test_a_kept_channel_is_part_of_the_format_and_a_change_is_noticed(folder):
    tiffs(folder, 9, (20, 30, 4))
    images = scan_folder(folder).images
    tifffile.imwrite(folder / images.records[2].name, np.zeros((20, 30, 5), np.uint8), **FOUR)
    with pytest.raises(UserError, match="has changed since"):
        images.pixels(2)
