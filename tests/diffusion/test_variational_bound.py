import pytest
import torch

from calotype.diffusion import Cosine, Linear, ScaledLinear
from calotype.diffusion.prediction import estimate
from calotype.diffusion.variational_bound import bound_weights

SCHEDULES = [Linear(timesteps=20), ScaledLinear(), Cosine(timesteps=50)]


def posterior(schedule):
    """By how much x_0 enters the mean of q(x_(t-1) | x_t, x_0), and its variance, for t = 1, 2 ...: by Bayes' rule."""
    beta = schedule.betas()
    alpha_bar = (1 - beta).cumprod(0)
    prior, noise = 1 - alpha_bar[:-1], beta[1:]
    precision = 1 / prior + (1 - noise) / noise
    return alpha_bar[:-1].sqrt() / prior / precision, 1 / precision


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
@pytest.mark.parametrize("v", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_weighted_error_is_the_divergence_of_two_gaussians(schedule, v, prediction):
    """With equal variances it is the squared difference of their means over twice the variance."""
    t = torch.arange(1, schedule.timesteps, dtype=torch.float64)
    x_t, output, wrong = torch.randn(3, len(t), 1, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    level = schedule.marginal(t, x_t)
    x0, guess = (estimate(prediction, each, x_t, *level).x0 for each in (output, output + wrong))
    factor, variance = posterior(schedule)
    variance = (1 - v) * variance + v * schedule.betas()[1:]
    expected = (factor * (guess - x0).flatten()).square() / (2 * variance)
    weights = bound_weights(schedule, prediction, v_posterior=v)
    torch.testing.assert_close(weights[1:] * wrong.flatten().square(), expected, rtol=1e-6, atol=0)
    assert weights[0] == weights[1]


def test_for_the_image_it_is_half_of_what_a_step_loses_in_signal_to_noise():
    """The diffusion loss in discrete time of arXiv:2107.00630."""
    schedule = ScaledLinear()
    snr = schedule.log_snr(torch.arange(1000, dtype=torch.float64)).exp()
    torch.testing.assert_close(bound_weights(schedule, "x0")[1:], (snr[:-1] - snr[1:]) / 2, rtol=1e-8, atol=0)


def test_the_formula_of_the_reference_for_the_image():
    schedule = Linear(timesteps=10)
    alpha, sigma = (f(torch.arange(10, dtype=torch.float64)) for f in (schedule.alpha, schedule.sigma))
    weights = bound_weights(schedule, "x0", formula="alpha_ratio")
    torch.testing.assert_close(weights[1:], (alpha / (2 * (1 + sigma**2)))[1:], rtol=1e-12, atol=0)
    assert weights[0] == weights[1]


def test_in_float32_the_tables_are_rounded_first():
    """1 - alpha^2 has few digits left where there is little noise."""
    exact, rounded = (bound_weights(Linear(), "eps", dtype=dtype) for dtype in (torch.float64, torch.float32))
    assert rounded.dtype == torch.float32
    error = (rounded / exact - 1).abs()
    assert 1e-5 < error[1] < 1e-3
    assert error[100:].max() < 1e-5
