import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.utils.image_info import ImageError
from calotype.utils.label_maps import coloured, read_labels, write_labels

LABELS = np.array([[0, 1, 2, 2], [3, 0, 1, 1], [2, 2, 3, 0]])


def saved(folder: Path, image: Image.Image, name: str = "map.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def palette(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(np.arange(768, dtype=np.uint8)[::-1].tobytes())
    return image


def write_grey(path: Path, values: np.ndarray, bits: int) -> None:
    """Write a grey PNG of 1, 2 or 4 bits, which Pillow reads but does not write."""
    digits = ((values[..., None] >> np.arange(bits)[::-1]) & 1).reshape(len(values), -1).astype(np.uint8)
    rows = np.pad(np.packbits(digits, axis=1), ((0, 0), (1, 0)))
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("most", [4, 200, 255, 60_000])
def test_labels_survive_a_file(tmp_path: Path, most: int) -> None:
    labels = np.random.default_rng(0).integers(0, most, (5, 7))
    write_labels(tmp_path / "map.png", labels)
    assert np.array_equal(read_labels(tmp_path / "map.png"), labels)
    assert Image.open(tmp_path / "map.png").mode == ("P" if most <= 255 else "I;16")


def test_what_is_not_labelled_is_minus_one(tmp_path: Path) -> None:
    labels = np.where(LABELS == 3, -1, LABELS)
    write_labels(tmp_path / "map.png", labels)
    assert np.array_equal(read_labels(tmp_path / "map.png"), labels)
    assert Image.open(tmp_path / "map.png").getextrema() == (0, 255)
    for wrong in (labels - 1, labels * 200, np.full((2, 2), 65_536)):
        with pytest.raises(ValueError, match="do not fit into a PNG"):
            write_labels(tmp_path / "wrong.png", wrong)
    np.save(tmp_path / "map.npy", labels * 2)
    assert np.array_equal(read_labels(tmp_path / "map.npy"), np.maximum(labels * 2, -1))


@pytest.mark.parametrize("name", ["map.png", "map.bmp", "map.gif", "map.tif"])
def test_a_palette_index_is_the_label_whatever_its_colour(tmp_path: Path, name: str) -> None:
    assert np.array_equal(read_labels(saved(tmp_path, palette(LABELS), name)), LABELS)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_and_greys_of_few_bits_are_not_scaled(tmp_path: Path, bits: int) -> None:
    labels = LABELS % 2**bits
    assert np.array_equal(read_labels(saved(tmp_path, palette(labels), bits=bits)), labels)
    write_grey(tmp_path / "grey.png", labels, bits)
    assert np.array_equal(read_labels(tmp_path / "grey.png"), labels)


def test_grey_values_are_labels_in_8_and_16_bits(tmp_path: Path) -> None:
    assert np.array_equal(read_labels(saved(tmp_path, Image.fromarray(LABELS.astype(np.uint8)))), LABELS)
    wide = (LABELS * 255).astype(np.uint16)
    assert np.array_equal(read_labels(saved(tmp_path, Image.fromarray(wide))), wide)


def test_a_map_is_turned_upright_like_its_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, palette(LABELS), exif=exif)
    assert np.array_equal(read_labels(path), np.rot90(LABELS, -1))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_refused_with_what_to_do(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path, palette(LABELS).convert("RGBA").convert(mode))
    with pytest.raises(
        ImageError, match=r"^\S*map.png: is coloured .* save it with a palette .*the index is the label"
    ):
        read_labels(path)


def test_what_holds_no_labels_is_refused(tmp_path: Path) -> None:
    grey = Image.fromarray(LABELS.astype(np.uint8))
    with pytest.raises(ImageError, match="JPEG changes labels"):
        read_labels(saved(tmp_path, grey, "map.jpg"))
    with pytest.raises(ImageError, match="megapixels"):
        read_labels(saved(tmp_path, grey), max_pixels=11)
    with pytest.raises(ImageError, match="No such file"):
        read_labels(tmp_path / "none.png")
    np.save(tmp_path / "half.npy", LABELS + 0.5)
    with pytest.raises(ImageError, match="they are integers"):
        read_labels(tmp_path / "half.npy")


def test_pictures_of_labels_have_one_colour_each(tmp_path: Path) -> None:
    labels = np.arange(-1, 254).reshape(15, 17)
    write_labels(tmp_path / "map.png", labels)
    shown = coloured(labels)
    assert np.array_equal(shown, np.asarray(Image.open(tmp_path / "map.png").convert("RGB")))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == labels.size
    assert not shown[0, 0].any()
