import json

import numpy as np
import pytest
import torch

from calotype.data.pixel_format import PixelFormat
from calotype.utils.config import from_dict, to_dict

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)


@pytest.mark.parametrize("rounding", ["nearest", "down"])
def test_pixels_survive_the_way_to_the_model_and_back(rounding: str) -> None:
    pixel_format = PixelFormat(channels=1)
    values = pixel_format.to_model(LEVELS).permute(2, 0, 1)[None]
    if rounding == "down":
        values = values + 1e-4
    pixels, clipped = pixel_format.to_file(values, rounding)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels[0], LEVELS)
    assert clipped == 0


def test_values_between_two_levels_go_to_the_nearest_or_down() -> None:
    values = torch.tensor([10.4, 10.6, -3.0, 255.3]).view(1, 1, 1, 4) / 127.5 - 1
    nearest, clipped = PixelFormat(channels=1).to_file(values)
    down, _ = PixelFormat(channels=1).to_file(values, rounding="down")
    assert nearest.flatten().tolist() == [10, 11, 0, 255]
    assert down.flatten().tolist() == [10, 10, 0, 255]
    assert clipped == 1, "by more than half a step"


def test_floats_are_not_rounded() -> None:
    pixel_format = PixelFormat(channels=1, dtype="float32", low=0.0, high=1.0)
    values = torch.tensor([0.2, 0.7]).view(1, 1, 1, 2)
    for rounding in ("nearest", "down"):
        pixels, _ = pixel_format.to_file(values, rounding)
        np.testing.assert_allclose(pixels.flatten(), [0.6, 0.85], rtol=1e-6)


def test_a_range_for_each_channel():
    pixel_format = PixelFormat(channels=3, dtype="float32", low=(0.0, -5.0, 10.0), high=(1.0, 5.0, 30.0))
    pixels = np.array([[[0.0, -5.0, 10.0], [0.5, 0.0, 20.0], [1.0, 5.0, 40.0]]], np.float32)
    values = pixel_format.to_model(pixels)
    assert values[0].tolist() == [[-1, -1, -1], [0, 0, 0], [1, 1, 2]]
    back, clipped = pixel_format.to_file(values.permute(2, 0, 1)[None])
    assert clipped == 1
    assert back[0, 0].tolist() == [[0, -5, 10], [0.5, 0, 20], [1, 5, 30]]
    assert str(pixel_format) == "3 channels of float32, each with its own range"
    assert from_dict(PixelFormat, json.loads(json.dumps(to_dict(pixel_format)))) == pixel_format


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_every_integer_survives(dtype):
    limits = np.iinfo(dtype)
    levels = np.arange(limits.min, limits.max + 1).astype(dtype).reshape(-1, 1, 1)
    for low, high in ((limits.min, limits.max), (limits.min, limits.max + 1000)):
        pixel_format = PixelFormat(channels=1, dtype=dtype, low=float(low), high=float(high))
        back, clipped = pixel_format.to_file(pixel_format.to_model(levels).permute(2, 0, 1)[None])
        assert clipped == 0
        assert np.array_equal(back[0], levels)


def test_the_ends_of_a_float_range_are_not_called_clipped():
    pixel_format = PixelFormat(channels=1, dtype="float32", low=0.0123, high=77.7)
    ends = torch.tensor([-1.0, 1.0, 1.001]).view(1, 1, 1, 3)
    assert pixel_format.to_file(ends)[1] == 1


def test_formats_of_older_models_are_read():
    old = {"channels": 3, "dtype": "uint8", "low": 0.0, "high": 255.0}
    assert from_dict(PixelFormat, old) == PixelFormat()
    assert to_dict(PixelFormat()) == old


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"channels": 0}, "channels"),
        ({"low": 255.0}, "low"),
        ({"low": (0.0, 0.0)}, "low and high"),
        ({"low": (0.0, 0.0), "high": (1.0, 1.0)}, "low must have 3"),
        ({"low": (0.0, 0.0, 1.0), "high": (1.0, 1.0, 1.0)}, "must be below"),
        ({"high": float("nan")}, "must be below"),
    ],
)
def test_formats_that_make_no_sense(options, field):
    with pytest.raises(ValueError, match=field):
        PixelFormat(**options)


def test_a_range_is_named_where_it_is_not_the_full_one():
    assert str(PixelFormat(channels=1, dtype="uint16", high=65535.0)) == "1 channel of uint16"
    assert str(PixelFormat(channels=4, dtype="uint16", high=4095.0)) == "4 channels of uint16 from 0 to 4095"
