import numpy as np
import pytest
import torch

from calotype.data.pixel_format import PixelFormat

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
