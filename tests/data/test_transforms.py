import numpy as np
import pytest
import torch

from calotype.data.transforms import Transform
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError
from calotype.utils.seeds import generator

DRAWS = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(40, 30, 3), (30, 40, 1), (10, 500, 3), (5, 5, 4), (16, 16, 3)])
def test_shape_and_depth(dtype, shape):
    pixels = DRAWS.integers(0, 255, shape).astype(dtype)
    square = Transform(size=16).apply(pixels)
    assert square.shape == (16, 16, shape[2])
    assert square.dtype == dtype


def test_a_square_of_the_right_size_is_untouched():
    for dtype in ("uint8", "uint16"):
        pixels = DRAWS.integers(0, 65536, (16, 16, 3)).astype(dtype)
        assert np.array_equal(Transform(size=16).apply(pixels), pixels)


def test_centre_crop():
    pixels = np.zeros((8, 20, 1), np.uint8)
    pixels[:, 6:14] = DRAWS.integers(1, 256, (8, 8, 1))
    assert np.array_equal(Transform(size=8).apply(pixels), pixels[:, 6:14])


def test_the_largest_crop_of_a_shape():
    pixels = np.arange(240, dtype=np.uint8).reshape(12, 20, 1)
    assert np.array_equal(Transform(size=(12, 8)).apply(pixels), pixels[:, 6:14])
    assert np.array_equal(Transform(size=(5, 20)).apply(pixels), pixels[3:8])
    assert Transform(size=(6, 10), crop="random", flip=True).apply(pixels, generator(0)).shape == (6, 10, 1)
    assert Transform(size=(9, 3)).apply(pixels[:1, :1]).shape == (9, 3, 1)


SIZES = Transform(size=64, more_sizes=((64, 96), (96, 64), 128, (128, 192)))


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (64, 64, 64),
        (100, 101, 64),
        (300, 310, 128),
        (60, 90, (64, 96)),
        (100, 160, (64, 96)),
        (200, 290, (128, 192)),
        (90, 60, (96, 64)),
        (50, 50, 64),
        (8, 500, (64, 96)),
    ],
)
def test_an_image_goes_where_least_is_cropped_and_nothing_is_enlarged(height, width, size):
    assert SIZES.sizes[SIZES.choose(height, width)] == size


def test_reduction_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inside = Transform(size=16).apply(stripes)[:, 2:-2].astype(int)
    assert np.abs(inside - 128).max() <= 2


def test_16_bits_resample_like_8_bits_but_finer_and_do_not_wrap():
    pixels = np.random.default_rng(0).integers(64, 192, (48, 48, 3)).astype(np.uint8)  # none overshoots 8 bits
    coarse = Transform(size=20).apply(pixels).astype(float)
    fine = Transform(size=20).apply(pixels.astype(np.uint16) * 257).astype(float) / 257
    assert np.abs(coarse - fine).max() < 1.2
    assert np.abs(fine - np.rint(fine)).max() > 0.4
    edge = np.zeros((8, 8, 1), np.uint16)
    edge[:, 4:] = 65535  # Lanczos overshoots on both sides
    enlarged = Transform(size=32).apply(edge)[..., 0]
    assert enlarged[:, :12].max() < 20_000
    assert enlarged[:, 20:].min() > 45_000


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_signed_numbers_and_any_channels_resample_alike(dtype):
    pixels = DRAWS.integers(-20_000, 20_000, (48, 40, 6)).astype(dtype)
    together = Transform(size=20).apply(pixels)
    assert together.dtype == dtype
    for channel in range(6):
        alone = Transform(size=20).apply(pixels[..., channel : channel + 1])
        assert np.array_equal(together[..., channel : channel + 1], alone)
    moved = Transform(size=20).apply((pixels.astype(np.float32) + 25_000).astype(np.uint16))
    assert np.abs(together.astype(float) + 25_000 - moved).max() <= 1.1


def test_random_crop_takes_every_place_and_only_what_is_there():
    pixels = np.broadcast_to(np.arange(6, dtype=np.uint8)[None, :, None], (4, 6, 1))
    transform = Transform(size=4, crop="random")
    lefts = {int(transform.apply(pixels, generator(0, i))[0, 0, 0]) for i in range(40)}
    assert lefts == {0, 1, 2}


def test_flip_mirrors_half_of_the_time():
    pixels = DRAWS.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    transform = Transform(size=4, flip=True)
    flips = 0
    for i in range(100):
        square = transform.apply(pixels, generator("flip", i))
        flipped = np.array_equal(square, pixels[:, ::-1])
        assert flipped or np.array_equal(square, pixels)
        flips += flipped
    assert 30 < flips < 70


def test_draws_come_from_the_generator_alone():
    pixels = DRAWS.integers(0, 256, (30, 50, 3)).astype(np.uint8)
    transform = Transform(size=8, crop="random", flip=True)
    torch.manual_seed(0)
    first = transform.apply(pixels, generator(7))
    torch.manual_seed(1)
    assert np.array_equal(transform.apply(pixels, generator(7)), first)


@pytest.mark.parametrize("options", [{"flip": True}, {"crop": "random"}])
def test_random_transforms_need_a_generator(options):
    transform = Transform(size=8, **options)
    assert not transform.deterministic
    with pytest.raises(ValueError, match="needs a generator"):
        transform.apply(np.zeros((8, 8, 3), np.uint8))
    assert Transform(size=8).deterministic


def test_config():
    transform = Transform(size=48, more_sizes=((48, 64), 32), crop="random", flip=True)
    assert from_dict(Transform, to_dict(transform)) == transform
    with pytest.raises(UserError, match="size"):
        from_dict(Transform, {"size": 0})
