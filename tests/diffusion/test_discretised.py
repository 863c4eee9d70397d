import math

import pytest
import scipy.stats
import torch

from calotype.diffusion.likelihood import DiscretisedLaplace, DiscretisedNormal

BOTH = pytest.mark.parametrize("kind", [DiscretisedNormal, DiscretisedLaplace])
LAWS = {DiscretisedNormal: scipy.stats.norm, DiscretisedLaplace: scipy.stats.laplace}


def levels(count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.linspace(-1, 1, count, dtype=dtype)[:, None]


@BOTH
@pytest.mark.parametrize("count", [2, 17, 256])
@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.3, 5.0])
@pytest.mark.parametrize("mean", [-1.7, -1.0, 0.123, 0.999, 40.0])
def test_the_levels_add_up_to_one(kind, count, scale, mean):
    x = levels(count)
    nll = kind(2 / (count - 1), scale)(x, torch.full_like(x, mean))
    assert nll.isfinite().all()
    assert (-nll).exp().sum().item() == pytest.approx(1, abs=1e-12)


@BOTH
def test_a_level_has_the_mass_of_its_bin(kind):
    width, scale, mean = 2 / 255, 0.05, 0.1
    x = levels(256)
    law = LAWS[kind](loc=mean, scale=scale)
    expected = law.cdf(x.numpy() + width / 2) - law.cdf(x.numpy() - width / 2)
    expected[0], expected[-1] = law.cdf(-1 + width / 2), law.sf(1 - width / 2)
    found = (-kind(width, scale)(x, torch.full_like(x, mean))).exp()
    torch.testing.assert_close(found, torch.from_numpy(expected).flatten(), rtol=1e-6, atol=1e-14)


@BOTH
def test_float32_is_right_in_both_tails(kind):
    """Where a distribution function is within a rounding error of 1, it is taken from the other side."""
    x = levels(256)
    law = kind(2 / 255, 0.02)
    for mean in (-0.95, 0.95):
        exact = law(x, torch.full_like(x, mean))
        single = law(x.float(), torch.full_like(x, mean).float())
        torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-3)


def test_far_from_the_edges_it_is_the_density_times_the_width():
    x = levels(65536)[30000:30001]
    nll = DiscretisedNormal(2 / 65535, 0.1)(x, x + 0.05)
    assert nll.item() == pytest.approx(-scipy.stats.norm.logpdf(0.05, scale=0.1) - math.log(2 / 65535), abs=1e-6)


def test_channels_may_have_widths_of_their_own():
    width = torch.tensor([2 / 255, 2 / 16], dtype=torch.float64).view(2, 1, 1)
    x, mean = torch.zeros(1, 2, 1, 1, dtype=torch.float64) - 0.5, torch.zeros(1, 2, 1, 1, dtype=torch.float64)
    parts = [DiscretisedNormal(float(width[c]), 0.2)(x[:, c], mean[:, c]).item() for c in range(2)]
    assert DiscretisedNormal(width, 0.2)(x, mean).item() == pytest.approx(sum(parts), rel=1e-12)


@pytest.mark.parametrize("true", [DiscretisedNormal, DiscretisedLaplace])
def test_fitting_finds_the_scale_and_the_family(true):
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(20_000, generator=generator, dtype=torch.float64).view(5, 1, 50, 80)
    errors = 0.05 * torch.from_numpy(LAWS[true].ppf(uniform.numpy()))
    mean = torch.rand(5, 1, 50, 80, generator=generator, dtype=torch.float64) - 0.5
    width = 2 / 255
    x = -1 + width * ((mean + errors + 1) / width).round()
    found = {kind: kind.fit(x, mean, width) for kind in (DiscretisedNormal, DiscretisedLaplace)}
    assert min(found, key=lambda kind: found[kind][1]) is true
    fitted, loss = found[true]
    assert fitted.scale == pytest.approx(0.05, rel=0.03)
    assert loss == pytest.approx(fitted(x, mean).sum().item() / x.numel(), rel=1e-12)
    for scale in (0.97, 1.03):
        assert true(width, fitted.scale * scale)(x, mean).sum() > fitted(x, mean).sum()
