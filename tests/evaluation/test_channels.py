import math

import pytest
import torch

from calotype.data.pixel_format import PixelFormat
from calotype.evaluation.channels import ChannelStatistics


def test_each_channel_has_its_own_numbers_in_the_units_of_its_files() -> None:
    """Two channels of other ranges: the first off by 0.2 of 2 everywhere (20 dB), the second right but for clipping."""
    pixel_format = PixelFormat(channels=2, dtype="uint16", low=(0.0, 100.0), high=(200.0, 4100.0))
    images = torch.zeros(3, 2, 4, 4)
    images[:, 1, 0] = 1.5
    decoded = images.clone()
    decoded[:, 0] += 0.2
    decoded[0, 1, 1, 1] = -1.0002  # less than half a step of 4000
    decoded[0, 0, 1, 1] = -1.5
    found = ChannelStatistics(pixel_format)
    for part in zip(images.split(2), decoded.split(2), strict=True):
        found.add(*part)
    first, second = found.summary()["channels"]
    beside = 10 * math.log10(4 / ((15 * 0.2**2 + 1) / 16))
    assert first["psnr"] == pytest.approx((20 + 20 + beside) / 3, abs=1e-4)
    assert (first["low"], first["high"]) == (100.0, 100.0)
    assert (second["low"], second["high"]) == (2100.0, 5100.0)
    assert (first["outside"], second["outside"]) == (0.0, 0.25)
    assert first["clipped"] == pytest.approx(1 / 48)
    assert second["clipped"] == 0.25
    assert found.summary()["clipped"] == pytest.approx((1 / 48 + 0.25) / 2)


def test_without_a_format_it_is_the_range_of_the_model() -> None:
    found = ChannelStatistics()
    found.add(torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 1.001))
    (channel,) = found.summary()["channels"]
    assert (channel["low"], channel["high"], channel["clipped"]) == (0.5, 0.5, 1.0)


def test_nothing_is_no_statistic() -> None:
    with pytest.raises(ValueError, match="no images"):
        ChannelStatistics().summary()
