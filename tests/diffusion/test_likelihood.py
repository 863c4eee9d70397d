"""The density of the probability-flow ODE, where it is known."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

import calotype as ct
from calotype.diffusion import Cosine, Denoise, Estimate, Flow, Linear, NoiseSchedule, ScaledLinear
from calotype.diffusion.likelihood.divergence import exact_divergence
from calotype.diffusion.likelihood.runge_kutta import runge_kutta

MEAN, STD = 0.7, 0.5
TIGHT = {"rtol": 1e-8, "atol": 1e-8}


@pytest.fixture
def points() -> Tensor:
    return torch.linspace(-0.6, 2, 12, dtype=torch.float64).view(6, 2, 1, 1)


def pushed_normal(schedule: NoiseSchedule, x: Tensor, mean: float, std: float) -> Tensor:
    """The density that the ODE of N(mean, std^2) gives to ``x`` from standard normal noise: its path is affine."""
    t = torch.tensor(schedule.t_max, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    slope = (alpha**2 * std**2 + sigma**2).sqrt() / std
    return (Normal(0.0, 1.0).log_prob(alpha * mean + slope * (x - mean)) + slope.log()).flatten(1).sum(1)


def mixture(schedule: NoiseSchedule, means: Tensor, std: float) -> Denoise:
    """The exact denoiser of equally likely normal distributions at ``means`` [k, n]."""

    def denoise(x_t: Tensor, t: Tensor) -> Estimate:
        alpha, sigma = schedule.marginal(t, x_t)
        residual = (x_t.flatten(1)[:, None] - alpha * means) / (alpha**2 * std**2 + sigma**2)
        odds = (-0.5 * residual.square() * (alpha**2 * std**2 + sigma**2)).sum(-1).softmax(1)[..., None]
        x0 = (odds * (means + alpha * std**2 * residual)).sum(1).view_as(x_t)
        return Estimate(x0, sigma * (odds * residual).sum(1).view_as(x_t), alpha, sigma)

    return denoise


@pytest.mark.parametrize("schedule", [Flow(), Cosine(), Linear(), ScaledLinear(beta_start=0.0015, beta_end=0.0195)])
def test_the_density_of_gaussian_data_is_that_of_the_gaussian(gaussian, schedule, points):
    found = ct.log_likelihood(gaussian(schedule, MEAN, STD), points, schedule, **TIGHT)
    # below t_min the velocity is a line: an error of the third power of the noise there
    tolerance = 1e-6 + 25 * float(schedule.sigma(torch.tensor(schedule.t_min, dtype=torch.float64))) ** 3
    torch.testing.assert_close(found, pushed_normal(schedule, points, MEAN, STD), rtol=0, atol=tolerance)
    if isinstance(schedule, Flow):
        known = Normal(MEAN, STD).log_prob(points).flatten(1).sum(1)
        torch.testing.assert_close(found, known, rtol=0, atol=1e-6)


def test_the_density_of_a_mixture(points):
    means = torch.tensor([[-0.8, 0.3], [0.9, 0.9], [1.5, -1.0]], dtype=torch.float64)
    known = MixtureSameFamily(
        Categorical(torch.ones(3, dtype=torch.float64)), torch.distributions.Independent(Normal(means, 0.4), 1)
    ).log_prob(points.flatten(1))
    found = ct.log_likelihood(mixture(Flow(), means, 0.4), points, Flow(), **TIGHT)
    torch.testing.assert_close(found, known, rtol=0, atol=1e-6)


def test_the_entropy_of_a_gaussian_in_bits(gaussian):
    """-log p is quadratic: its mean over N(0.7, 0.25) is that over the two points mean +- std."""
    x = torch.tensor([MEAN - STD, MEAN + STD], dtype=torch.float64).view(2, 1, 1, 1)
    bits = ct.bits_per_dim(ct.log_likelihood(gaussian(Flow(), MEAN, STD), x, Flow(), **TIGHT), 1)
    assert bits.mean().item() == pytest.approx(1.04710, abs=5e-6)


@pytest.mark.parametrize("schedule", [Flow(), Linear()])
def test_a_noisy_image_has_the_density_of_its_time(gaussian, schedule, points):
    t = 0.3 * schedule.t_max
    alpha, sigma = (float(f(torch.tensor(t, dtype=torch.float64))) for f in (schedule.alpha, schedule.sigma))
    found = ct.log_likelihood(gaussian(schedule, MEAN, STD), points, schedule, start=t, **TIGHT)
    total = math.sqrt(alpha**2 * STD**2 + sigma**2)
    end = torch.tensor(schedule.t_max, dtype=torch.float64)
    slope = (schedule.alpha(end) ** 2 * STD**2 + schedule.sigma(end) ** 2).sqrt() / total
    at_end = schedule.alpha(end) * MEAN + slope * (points - alpha * MEAN)
    expected = (Normal(0.0, 1.0).log_prob(at_end) + slope.log()).flatten(1).sum(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="start must be at least"):
        ct.log_likelihood(gaussian(schedule, MEAN, STD), points, schedule, start=schedule.t_max)


def test_hutchinson_is_unbiased_and_follows_its_seeds():
    turn = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 3.0, 0.0], [4.0, 0.3, -2.0]], dtype=torch.float64)

    def field(z: Tensor) -> Tensor:
        return (z.flatten(1) @ turn.T + z.flatten(1) ** 2).view_as(z)

    row = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64).view(1, 3, 1, 1)
    exact = exact_divergence(field, row)[1].item()
    assert exact == pytest.approx(turn.trace().item() + 2 * row.sum().item(), abs=1e-12)
    many = row.expand(2000, 3, 1, 1)
    values, found = ct.Hutchinson(range(2000))(field, many)
    torch.testing.assert_close(values, field(many))
    assert found.std() > 1
    assert abs(found.mean().item() - exact) < 5 * found.std().item() / math.sqrt(2000)
    assert torch.equal(ct.Hutchinson(range(5, 8))(field, many[:3])[1], found[5:8])
    averaged = ct.Hutchinson(range(2000), probes=4)(field, many)[1]
    assert averaged.std().item() == pytest.approx(found.std().item() / 2, rel=0.1)


def test_hutchinson_gives_the_likelihood_on_average():
    means = torch.tensor([[-0.8, 0.3], [0.9, 0.9]], dtype=torch.float64)
    denoise = mixture(Flow(), means, 0.6)
    x = torch.tensor([0.2, 0.5], dtype=torch.float64).view(1, 2, 1, 1).expand(200, 2, 1, 1)
    exact = ct.log_likelihood(denoise, x[:1], Flow()).item()
    found = ct.log_likelihood(denoise, x, Flow(), divergence=ct.Hutchinson(range(200)))
    assert found.std() > 1e-3
    assert abs(found.mean().item() - exact) < 5 * found.std().item() / math.sqrt(200)


def test_a_network_that_keeps_no_graph_is_refused(gaussian, points):
    def denoise(x_t: Tensor, t: Tensor) -> Estimate:
        with torch.no_grad():
            return gaussian(Flow(), MEAN, STD)(x_t, t)

    with pytest.raises(ValueError, match="must not run under no_grad"):
        ct.log_likelihood(denoise, points, Flow(), start=0.5)
    with pytest.raises(ValueError, match="2 seeds for 6 rows"):
        ct.log_likelihood(denoise, points, Flow(), divergence=ct.Hutchinson(range(2)))


@torch.no_grad()
def test_it_makes_its_own_graph(gaussian, points):
    denoise = gaussian(Flow(), MEAN, STD)
    expected = Normal(MEAN, STD).log_prob(points).flatten(1).sum(1)
    torch.testing.assert_close(ct.log_likelihood(denoise, points, Flow()), expected, rtol=0, atol=1e-3)
    found = ct.log_likelihood(denoise, points, Flow(), divergence=ct.Hutchinson(range(6)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)  # one slope for all: no variance


def test_images_are_float32_at_least_and_may_have_any_shape(gaussian):
    def denoise(x_t: Tensor, t: Tensor) -> Estimate:
        seen = gaussian(Flow(), MEAN, STD)(x_t[..., None, None], t)
        return Estimate(seen.x0, seen.eps, seen.alpha, seen.sigma)

    def flat(x_t: Tensor, t: Tensor) -> Estimate:
        seen = denoise(x_t, t)
        return type("Flat", (), {"x0": seen.x0[..., 0, 0], "eps": seen.eps[..., 0, 0]})()

    x = torch.tensor([[0.1, 0.4], [1.0, -0.5]])
    found = ct.log_likelihood(flat, x.half(), Flow())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, Normal(MEAN, STD).log_prob(x).sum(1), rtol=0, atol=2e-3)


def test_steps_are_of_fifth_order_and_within_the_tolerance():
    y = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    calls = []

    def slope(y: Tensor, r: float) -> Tensor:
        calls.append(r)
        return y * math.cos(3 * r) * 3

    counts = {}
    for tolerance in (1e-4, 1e-9):
        calls.clear()
        found = runge_kutta(slope, y, 0.0, 1.0, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(found, y * math.exp(math.sin(3)), rtol=5 * tolerance, atol=0)
        counts[tolerance] = len(calls)
    assert counts[1e-9] < 12 * counts[1e-4], "an error of order 5: 1e5 times less for 10 times the work"
    with pytest.raises(FloatingPointError, match="not finite"):
        runge_kutta(lambda y, r: y * float("nan"), y, 0.0, 1.0, rtol=1e-3, atol=1e-3)
    with pytest.raises(FloatingPointError, match="small enough"):
        runge_kutta(lambda y, r: y.square(), y, 0.0, 1.0, rtol=1e-6, atol=1e-6)
