"""Weightings: their published values, and that they mean the same for every prediction."""

import math

import pytest
import torch

from calotype.diffusion import (
    EDM,
    Cosine,
    EDMWeighting,
    ELBOWeighting,
    Flow,
    HuberLoss,
    L1Loss,
    L2Loss,
    Linear,
    LogitNormalTimes,
    LogNormalTimes,
    MinSNRWeighting,
    Objective,
    P2Weighting,
    SimpleWeighting,
    UniformTimes,
    ZeroTerminalSNR,
    error_weights,
    q_sample,
)
from calotype.diffusion.prediction import estimate, target
from calotype.diffusion.variational_bound import bound_weights

SCHEDULES = [Linear(), Cosine(), Flow(), EDM()]
PREDICTIONS = ("eps", "x0", "v", "flow")
WEIGHTINGS = [
    MinSNRWeighting(gamma=3.0),
    P2Weighting(k=0.5, gamma=1.5),
    EDMWeighting(sigma_data=0.5),
    ELBOWeighting(),
]
UNIFORM = UniformTimes()


def times_of(schedule, rows=4):
    return schedule.time(torch.linspace(3.5, -3.5, rows, dtype=torch.float64))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("loss", [L2Loss(), L1Loss(), HuberLoss(c=0.3)])
def test_one_estimate_costs_the_same_in_every_prediction(schedule, weighting, loss):
    """T7: the same (x_0, eps), said in four ways."""
    x0, noise, output = torch.randn(3, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = times_of(schedule)
    alpha, sigma = schedule.marginal(t, x0)
    guess = estimate("flow", output, q_sample(x0, noise, t, schedule), alpha, sigma)
    of_x0 = error_weights(weighting, "x0", t, schedule, UNIFORM)
    expected = loss((guess.x0 - x0) * of_x0.sqrt().view(-1, 1, 1, 1))
    for prediction in PREDICTIONS:
        objective = Objective(prediction=prediction, weighting=weighting, loss=loss)
        said = target(prediction, guess.x0, guess.eps, alpha, sigma)
        torch.testing.assert_close(objective.terms(said, x0, noise, t, schedule).total, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_published_weights(schedule):
    t = times_of(schedule)
    snr = schedule.log_snr(t).exp()
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert snr.min() < 5 < snr.max()

    def weights(weighting, prediction):
        return error_weights(weighting, prediction, t, schedule, UNIFORM)

    close = {"rtol": 1e-10, "atol": 0}
    for prediction in PREDICTIONS:
        assert torch.equal(weights(SimpleWeighting(), prediction), torch.ones_like(t))
    torch.testing.assert_close(weights(MinSNRWeighting(), "x0"), snr.clamp(max=5), **close)
    torch.testing.assert_close(weights(MinSNRWeighting(), "eps"), snr.clamp(max=5) / snr, **close)
    torch.testing.assert_close(weights(P2Weighting(k=2.0, gamma=0.7), "eps"), (2 + snr) ** -0.7, **close)
    edm, level = weights(EDMWeighting(sigma_data=0.5), "x0"), sigma / alpha
    torch.testing.assert_close(edm, (level**2 + 0.5**2) / (level * 0.5) ** 2, **close)
    if not isinstance(schedule, Flow):  # v has its published form where alpha^2 + sigma^2 = 1
        torch.testing.assert_close(weights(MinSNRWeighting(), "v"), snr.clamp(max=5) / (snr + 1), **close)
        torch.testing.assert_close(weights(EDMWeighting(), "v"), torch.ones_like(t), **close)


@pytest.mark.parametrize("times", [UniformTimes(), LogitNormalTimes(std=1.6), LogNormalTimes(mean=0.0, std=2.0)])
@pytest.mark.parametrize("schedule", [Linear(), Flow()])
def test_the_bound_is_one_number_whatever_the_times(schedule, times):
    """Data from N(0, s^2), the best denoiser: its eps errs by alpha^2 s^2 / (alpha^2 s^2 + sigma^2) at every level.

    The integral of half of that over log SNR, between two levels, is a logarithm.
    """
    s2, low, high = 0.3, -4.0, 4.0
    t = times.sample(400_000, torch.Generator().manual_seed(0), schedule)
    log_snr = schedule.log_snr(t)
    inside = (log_snr > low) & (log_snr < high)
    signal = log_snr.exp() * s2
    error = torch.where(inside, signal / (1 + signal), 0.0)
    weighted = error_weights(ELBOWeighting(), "eps", t[inside], schedule, times) * error[inside]
    exact = (math.log1p(s2 * math.exp(high)) - math.log1p(s2 * math.exp(low))) / 2
    spread = 5 * math.sqrt(float(weighted.square().sum()) / len(t) / len(t))
    assert abs(float(weighted.sum()) / len(t) - exact) < spread + 0.01, "a table has steps in log SNR of its own"
    assert spread < 0.03


def test_the_bound_of_many_steps_is_that_of_continuous_time():
    """The reference's weights for single steps, summed over a long table, against the integral's at the same times."""
    schedule = Linear(timesteps=20_000, beta_start=5e-6, beta_end=1e-3)
    t = torch.arange(2_000, 20_000, 500, dtype=torch.float64)
    steps = bound_weights(schedule, "eps", v_posterior=1.0)[t.long()] * schedule.timesteps
    torch.testing.assert_close(error_weights(ELBOWeighting(), "eps", t, schedule, UNIFORM), steps, rtol=2e-3, atol=0)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: MinSNRWeighting(gamma=0.0), "gamma"),
        (lambda: P2Weighting(k=-1.0), "k must"),
        (lambda: P2Weighting(gamma=0.0), "gamma"),
        (lambda: EDMWeighting(sigma_data=0.0), "sigma_data"),
    ],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()


@pytest.mark.parametrize("weighting", [MinSNRWeighting(), P2Weighting(), EDMWeighting()])
def test_weights_are_finite_at_the_ends_of_time(weighting):
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for prediction in ("v", "flow"):
        ends = error_weights(weighting, prediction, t, Flow(), UNIFORM)
        near = error_weights(weighting, prediction, t.lerp(t.new_tensor(0.5), 1e-9), Flow(), UNIFORM)
        torch.testing.assert_close(ends, near, rtol=1e-8, atol=1e-7)


@pytest.mark.parametrize("times", [UniformTimes(), LogitNormalTimes(), LogNormalTimes()])
def test_the_bound_s_weights_are_held_beyond_the_least_noise_and_as_near_to_pure_noise(times):
    least = Flow().t_min
    t = torch.tensor([0.0, 1e-9, least, 1 - least, 1 - 1e-9, 1.0], dtype=torch.float64)
    for prediction in PREDICTIONS:
        weights = error_weights(ELBOWeighting(), prediction, t, Flow(), times)
        assert weights.isfinite().all()
        torch.testing.assert_close(weights, weights[[2, 2, 2, 3, 3, 3]], rtol=1e-9, atol=0)
        assert error_weights(ELBOWeighting(), prediction, t[2:3] * 1.1, Flow(), times) < weights[2]
    ends = torch.tensor([0.0, 999.0], dtype=torch.float64)
    assert error_weights(ELBOWeighting(), "v", ends, ZeroTerminalSNR(of=Linear()), times).isfinite().all()


def test_min_snr_is_gamma_for_a_clean_image_and_one_for_pure_noise():
    for prediction, t, expected in ("x0", 0.0, 3.0), ("eps", 1.0, 1.0):
        at = torch.tensor([t], dtype=torch.float64)
        assert error_weights(MinSNRWeighting(gamma=3.0), prediction, at, Flow(), UNIFORM).item() == expected


@pytest.mark.parametrize("weighting", [SimpleWeighting(), *WEIGHTINGS])
def test_indices_are_times_like_any_other(weighting):
    t = torch.tensor([3, 700])
    integers, floats = (error_weights(weighting, "eps", each, Linear(), UNIFORM) for each in (t, t.double()))
    assert torch.equal(integers, floats)
