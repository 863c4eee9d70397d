import pickle
from pathlib import Path

import numpy as np
import pytest

from calotype.utils.images import ImageError, inspect_image, load_image, read_image, save_image

DRAWS = np.random.default_rng(0)


@pytest.fixture
def write(tmp_path: Path):
    def write(data: np.ndarray, **options: object) -> Path:
        np.save(tmp_path / "image.npy", data, **options)
        return tmp_path / "image.npy"

    return write


def with_header(path: Path, shape: str, descr: str = "'<u2'", version: tuple[int, int] = (1, 0)) -> Path:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    path.write_bytes(b"\x93NUMPY" + bytes(version) + size + text + bytes(2000))
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", ">u2", ">f4"])
@pytest.mark.parametrize(
    ("shape", "layout", "channels"),
    [((20, 30), "hw", 1), ((20, 30, 4), "hwc", 4), ((20, 30, 1), "hwc", 1), ((13, 20, 30), "chw", 13)],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_shapes_and_types(write, dtype, shape, layout, channels, order):
    data = np.asarray(DRAWS.integers(0, 250, shape), dtype, order=order)
    path = write(data)
    info, pixels = load_image(path)
    assert (info.format, info.layout, info.channels, info.width, info.height) == ("NPY", layout, channels, 30, 20)
    assert info == inspect_image(path)
    assert pixels.dtype.isnative
    assert pixels.dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(pixels, np.moveaxis(data, 0, -1) if layout == "chw" else data.reshape(20, 30, channels))
    assert np.array_equal(np.load(save_image(path, pixels, info)), data), "written as it was"


@pytest.mark.parametrize("shape", [(20, 20, 20), (5, 30, 5), (30, 4, 40), (4, 4, 3, 3), (7,), ()])
def test_a_shape_that_could_be_anything_is_refused(write, shape):
    for look in (inspect_image, read_image):
        with pytest.raises(ImageError, match=r"has the shape .*(clearly the channels|an image is)") as caught:
            look(write(np.zeros(shape, np.uint8)))
        assert len(str(caught.value).splitlines()) == 1


def test_numbers_that_float32_holds_and_others(write):
    info, pixels = load_image(write(np.arange(30).reshape(5, 6)))
    assert (info.stored, pixels.dtype) == ("int64", np.float32)
    assert load_image(write(np.ones((5, 6), bool)))[1].max() == 1
    for data, reason in (
        (np.full((5, 6), 2**40), "does not hold exactly"),
        (np.full((5, 6), np.nan), "30 of 30 pixels are not finite"),
        (np.ones((5, 6), complex), "holds complex128"),
        (np.full((5, 6), "text"), "holds str"),
        (np.zeros((5, 6), "datetime64[s]"), "holds datetime64"),
        (np.zeros((5, 6), [("a", "u1")]), "holds void8"),
    ):
        with pytest.raises(ImageError, match=reason):
            read_image(write(data))


def test_objects_are_never_unpickled(write, tmp_path):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    data = np.empty((5, 6), object)
    data[:] = Harm()
    path = write(data, allow_pickle=True)
    with pytest.raises(ImageError, match="holds object"):
        read_image(path)
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ImageError, match="not an image"):
        read_image(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("shape", "descr", "reason"),
    [
        ("(100, 50, 4)", "'<u2'", "truncated: its header promises 40000 bytes, 2000 are there"),
        ("(9999999, 9999999)", "'<u2'", "megapixels"),
        ("(4294967296, 4294967296, 4)", "'<u2'", "megapixels"),
        ("(9000, 9000, 200)", "'<f4'", "with 200 channels of float32 is more than 800 MB"),
        ("(1000, 1000, 600)", "'|u1'", "600 channels are more than 512"),
        ("(0, 8)", "'<u2'", "no pixels"),
        ("(-4, 8)", "'<u2'", "no pixels"),
        ("(4.5, 8)", "'<u2'", "damaged"),
        ("5", "'<u2'", "damaged"),
        ("(8, 8)", "'nonsense'", "damaged"),
        ("(8, 8)", "__import__('os')", "damaged"),
        ("(" * 3000, "'<u2'", "damaged"),
    ],
)
def test_headers_that_lie(tmp_path, shape, descr, reason):
    path = with_header(tmp_path / "image.npy", shape, descr)
    for look in (inspect_image, read_image):
        with pytest.raises(ImageError, match=reason) as caught:
            look(path)
        assert len(str(caught.value).splitlines()) == 1


def test_versions(tmp_path):
    assert read_image(with_header(tmp_path / "a.npy", "(20, 30)", version=(2, 0))).shape == (20, 30, 1)
    for version in ((3, 0), (9, 9)):
        with pytest.raises(ImageError, match=r"array of records|damaged"):
            read_image(with_header(tmp_path / "a.npy", "(20, 30)", version=version))
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ImageError, match="damaged"):
        read_image(tmp_path / "a.npy")
