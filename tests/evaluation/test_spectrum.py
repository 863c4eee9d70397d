import math
from itertools import pairwise

import pytest
import torch
from scipy.fft import dctn, idctn

from calotype.evaluation import PowerSpectrum, low_pass
from calotype.evaluation.spectrum import dct_matrix, white_noise_share
from calotype.utils.seeds import generator


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator("spectrum", *shape))


def collected(images: torch.Tensor, variance: torch.Tensor | None = None) -> PowerSpectrum:
    spectrum = PowerSpectrum()
    for start in range(0, len(images), 3):
        rows = slice(start, start + 3)
        spectrum.add(images[rows], None if variance is None else variance[rows])
    return spectrum


def cosine(u: int, v: int, height: int = 16, width: int = 8) -> torch.Tensor:
    """The image of the one coefficient (u, v)."""
    return (dct_matrix(height)[u][:, None] * dct_matrix(width)[v]).float()[None, None]


def test_power_is_that_of_scipy() -> None:
    images = noise(5, 3, 12, 10)
    expected = (dctn(images.double().numpy(), axes=(2, 3), norm="ortho") ** 2).mean(0)
    torch.testing.assert_close(collected(images).power, torch.from_numpy(expected))


def test_low_pass_removes_coefficients_at_half_the_nyquist_frequency_and_above() -> None:
    images = noise(2, 3, 12, 10)
    coefficients = dctn(images.double().numpy(), axes=(2, 3), norm="ortho")
    for u in range(12):
        for v in range(10):
            if math.hypot(u / 12, v / 10) >= 0.5:
                coefficients[:, :, u, v] = 0
    expected = torch.from_numpy(idctn(coefficients, axes=(2, 3), norm="ortho")).float()
    torch.testing.assert_close(low_pass(images), expected)
    removed = (images - expected).square().mean()
    assert collected(images).removed_by_low_pass() == pytest.approx(float(removed), rel=1e-5)


@pytest.mark.parametrize(("u", "v", "share"), [(0, 1, 0), (7, 0, 0), (8, 0, 1), (0, 4, 1), (6, 3, 1), (5, 3, 0)])
def test_single_waves_are_low_or_high(u: int, v: int, share: float) -> None:
    assert collected(5 + cosine(u, v)).high_share() == pytest.approx(share, abs=1e-9)


def test_white_noise_has_the_share_of_its_coefficients() -> None:
    found = collected(noise(300, 2, 8, 8)).high_share()
    assert white_noise_share(8, 8) == 49 / 63
    assert found == pytest.approx(49 / 63, abs=0.01)
    assert white_noise_share(512, 512) == pytest.approx(1 - math.pi / 16, abs=2e-3)
    assert white_noise_share(1, 1) is None


def test_channels_count_the_same_whatever_their_scale_and_constant_ones_not_at_all() -> None:
    low, high = cosine(0, 1), cosine(8, 0)
    both = torch.cat([1000 * low, high, torch.full_like(low, 3.0)], dim=1)
    spectrum = collected(both)
    assert spectrum.high_share() == pytest.approx(0.5, abs=1e-6)
    assert collected(torch.ones(1, 1, 4, 4)).high_share() is None
    assert collected(torch.ones(1, 1, 1, 1)).curve() == []


def test_samples_are_taken_in_expectation() -> None:
    mean, std = noise(1, 1, 6, 8), 0.5 + torch.rand(1, 1, 6, 8, generator=generator("spectrum std"))
    exact = collected(mean, std.square()).power
    drawn = collected(mean + std * noise(40_000, 1, 6, 8)).power
    torch.testing.assert_close(drawn, exact, rtol=0.06, atol=0.0)


def test_curves_of_noise_are_flat_and_those_of_waves_have_a_peak() -> None:
    curve = collected(noise(400, 2, 8, 8)).curve()
    assert [power for _, power in curve] == pytest.approx([1.0] * len(curve), abs=0.1)
    assert all(0 < low < high < math.sqrt(2) for (low, _), (high, _) in pairwise(curve))
    peak = max(collected(cosine(0, 3)).curve(), key=lambda point: point[1])
    assert peak[0] == pytest.approx(3 / 8, abs=0.07)
