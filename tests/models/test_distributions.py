import math

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch.distributions import Normal, kl_divergence

from calotype.models.distributions import DiagonalGaussianDistribution, DiracDistribution, normal_kl

SHAPES = [(3, 2), (2, 4, 5), (2, 6, 3, 5), (2, 2, 2, 3, 4)]


def draw(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> DiagonalGaussianDistribution:
    parameters = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return DiagonalGaussianDistribution(parameters.to(dtype))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_kl_equals_torch_distributions(shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
    p, q = draw(shape, 1, dtype), draw(shape, 2, dtype)
    to_other = kl_divergence(Normal(p.mean, p.std), Normal(q.mean, q.std)).flatten(1).sum(dim=1)
    to_standard = kl_divergence(Normal(p.mean, p.std), Normal(0.0, 1.0)).flatten(1).sum(dim=1)
    torch.testing.assert_close(p.kl(q), to_other, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(p.kl(), to_standard, rtol=tolerance, atol=tolerance)
    assert p.kl().dtype == dtype


@pytest.mark.parametrize("shape", SHAPES)
def test_nll_equals_scipy(shape: tuple[int, ...]) -> None:
    p = draw(shape)
    x = torch.randn(p.mean.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    elements = -torch.from_numpy(scipy.stats.norm.logpdf(x.numpy(), p.mean.numpy(), p.std.numpy()))
    torch.testing.assert_close(p.nll(x), elements.flatten(1).sum(dim=1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(p.nll(x, dims=(1,)), elements.sum(dim=1), rtol=1e-12, atol=1e-12)


@given(shape=some.lists(some.integers(1, 4), min_size=2, max_size=5), seed=some.integers(0, 99), data=some.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_shape_and_any_dimensions(shape: list[int], seed: int, data: some.DataObject) -> None:
    shape[1] *= 2
    p, q = draw(tuple(shape), seed), draw(tuple(shape), seed + 1)
    assert p.kl().shape == p.nll(q.mean).shape == (shape[0],)
    torch.testing.assert_close(p.kl(q), kl_divergence(Normal(p.mean, p.std), Normal(q.mean, q.std)).flatten(1).sum(1))
    dims = data.draw(some.sets(some.integers(1, len(shape) - 1), min_size=1).map(tuple))
    elements = -Normal(p.mean, p.std).log_prob(q.mean)
    torch.testing.assert_close(p.nll(q.mean, dims=dims), elements.sum(dim=dims), rtol=1e-12, atol=1e-12)


def test_kl_is_zero_only_between_equals_positive_and_not_symmetric() -> None:
    p, q = draw((4, 6, 3), 1), draw((4, 6, 3), 2)
    assert torch.equal(p.kl(p), torch.zeros(4, dtype=torch.float64))
    assert (p.kl(q) > 0).all()
    assert not torch.allclose(p.kl(q), q.kl(p))
    nearly = DiagonalGaussianDistribution(torch.tensor([[0.0, 1e-6]]))
    assert nearly.kl().item() == pytest.approx(2.5e-13, rel=1e-3), "no cancellation near equality"


def test_kl_adds_over_independent_dimensions_and_follows_the_batch() -> None:
    p, q = draw((5, 6, 4), 1), draw((5, 6, 4), 2)
    parts = [
        DiagonalGaussianDistribution(p.parameters[..., part]).kl(DiagonalGaussianDistribution(q.parameters[..., part]))
        for part in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(p.kl(q), sum(parts), rtol=1e-12, atol=1e-12)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(DiagonalGaussianDistribution(p.parameters[order]).kl(), p.kl()[order])


def test_gradients() -> None:
    p = draw((2, 4, 3)).parameters.requires_grad_()
    q = draw((2, 4, 3), 1).parameters.requires_grad_()
    x = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gaussian = DiagonalGaussianDistribution
    assert torch.autograd.gradcheck(lambda a: gaussian(a).kl(), p)
    assert torch.autograd.gradcheck(lambda a, b: gaussian(a).kl(gaussian(b)), (p, q))
    assert torch.autograd.gradcheck(lambda a: gaussian(a).nll(x), p)
    assert torch.autograd.gradcheck(lambda a: gaussian(a).sample(x), p)


def test_log_variance_is_clamped_and_stays_finite() -> None:
    parameters = torch.tensor([[1.0, -1e9], [1.0, 1e9]])
    p = DiagonalGaussianDistribution(parameters)
    assert p.logvar.flatten().tolist() == [-30.0, 20.0]
    for values in (p.std, p.var, p.kl(), p.kl(DiagonalGaussianDistribution(parameters.flip(0))), p.nll(p.mean + 1)):
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("logvar", [-30.0, 20.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_the_ends_of_the_log_variance(logvar: float, dtype: torch.dtype) -> None:
    parameters = torch.tensor([[0.5, logvar]], dtype=dtype, requires_grad=True)
    p = DiagonalGaussianDistribution(parameters)
    for value in (p.kl(), p.nll(p.mean.detach() + 1e-3), p.sample(torch.ones(1, 1, dtype=dtype)).sum()):
        (gradient,) = torch.autograd.grad(value.sum(), parameters, retain_graph=True)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


def test_a_mean_variance_is_no_substitute_for_variances() -> None:
    """n/2 log of the mean variance is more than 1/2 sum log of each, by Jensen's inequality."""
    p = draw((1, 10), 5)
    shared = 5 / 2 * p.var.mean().log() + 5 / 2 * math.log(2 * math.pi)
    assert shared > p.nll(p.mean).item()
    same = DiagonalGaussianDistribution(torch.cat([p.mean, torch.full_like(p.mean, -0.7)], dim=1))
    assert same.nll(same.mean).item() == pytest.approx(5 / 2 * (math.log(2 * math.pi) - 0.7), rel=1e-12)


def test_deterministic_posterior_is_the_mode_and_costs_nothing() -> None:
    p = DiagonalGaussianDistribution(draw((3, 4, 2, 2)).parameters, deterministic=True)
    assert torch.equal(p.sample(), p.mode())
    assert torch.equal(p.mode(), p.mean)
    assert not p.std.any()
    assert not p.var.any()
    for cost in (p.kl(), p.kl(p), p.kl(draw((3, 4, 2, 2), 1)), p.nll(p.mean)):
        assert torch.equal(cost, torch.zeros(3, dtype=torch.float64))
    assert p.nll(p.mean, dims=(2, 3)).shape == (3, 2)
    assert draw((3, 4, 2, 2)).kl(p).tolist() == [math.inf] * 3
    meta = DiagonalGaussianDistribution(torch.empty(3, 4, 2, 2, device="meta"), deterministic=True).kl()
    assert (meta.device.type, meta.shape, meta.dtype) == ("meta", (3,), torch.float32)


def test_dirac_has_the_same_interface() -> None:
    value = torch.randn(2, 3, 4, 4)
    p = DiracDistribution(value)
    for same in (p.sample(), p.sample(torch.ones_like(value)), p.mode(), p.mean):
        assert torch.equal(same, value)
    assert not p.std.any()
    assert torch.equal(p.kl(), torch.zeros(2))
    assert torch.equal(p.nll(value), torch.zeros(2))
    assert p.nll(value, dims=(2, 3)).shape == (2, 3)


def test_samples_follow_the_generator_alone() -> None:
    p = draw((2, 4, 3), dtype=torch.float32)
    samples = [p.sample(generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])
    noise = torch.randn(p.mean.shape, generator=torch.Generator().manual_seed(7))
    assert torch.equal(p.sample(noise), samples[0])
    torch.testing.assert_close(p.sample(noise), p.mean + torch.exp(p.logvar / 2) * noise)


def test_samples_have_the_mean_and_variance() -> None:
    mean, logvar, n = 0.7, -1.2, 100_000
    p = DiagonalGaussianDistribution(torch.tensor([[mean, logvar]]).expand(n, 2))
    x = p.sample(generator=torch.Generator().manual_seed(0)).double()
    variance = math.exp(logvar)
    assert abs(x.mean().item() - mean) < 5 * math.sqrt(variance / n)
    assert abs(x.var().item() - variance) < 5 * variance * math.sqrt(2 / n)


def test_half_precision_is_summed_in_float32() -> None:
    p = draw((2, 8, 16, 16), dtype=torch.bfloat16)
    wide = DiagonalGaussianDistribution(p.parameters.float())
    assert p.kl().dtype == torch.float32
    torch.testing.assert_close(p.kl(), wide.kl())
    assert p.sample().dtype == torch.bfloat16


def test_normal_kl_takes_numbers_and_broadcasts() -> None:
    mean, logvar = torch.randn(2, 3), torch.randn(3)
    expected = kl_divergence(Normal(mean, torch.exp(logvar / 2)), Normal(0.5, math.exp(0.1)))
    torch.testing.assert_close(normal_kl(mean, logvar, 0.5, 0.2), expected)
    torch.testing.assert_close(
        normal_kl(0.5, 0.2, mean, logvar),
        kl_divergence(Normal(0.5, math.exp(0.1)), Normal(mean, torch.exp(logvar / 2))),
    )
    with pytest.raises(ValueError, match="at least one tensor"):
        normal_kl(0.0, 0.0, 0.0, 0.0)


def test_odd_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="even number"):
        DiagonalGaussianDistribution(torch.zeros(2, 3))
