import pytest
import torch

from calotype.diffusion import Cosine, Flow, Linear, LogitNormalTimes, Objective, UniformTimes, q_sample
from calotype.diffusion.prediction import estimate, target
from calotype.utils.config import from_dict, to_dict

SCHEDULES = [Linear(), Cosine(), Flow()]


def draws(schedule, rows=4):
    generator = torch.Generator().manual_seed(0)
    x0, noise, output = torch.randn(3, rows, 3, 4, 4, generator=generator, dtype=torch.float64)
    return x0, noise, output, torch.linspace(0.05, 0.8, rows, dtype=torch.float64) * schedule.t_max


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_q_sample_has_the_marginal_of_its_time(schedule):
    x0, noise, _, t = draws(schedule)
    x_t = q_sample(x0, noise, t, schedule)
    for row in range(len(t)):
        expected = schedule.alpha(t[row]) * x0[row] + schedule.sigma(t[row]) * noise[row]
        torch.testing.assert_close(x_t[row], expected, rtol=0, atol=1e-12)


def test_noising_twice_is_noising_once():
    """q(x_t | x_s) of DDPM's betas after q(x_s | x_0) has the mean and variance of q(x_t | x_0)."""
    schedule = Linear()
    alpha, sigma = (f(torch.arange(1000, dtype=torch.float64)) for f in (schedule.alpha, schedule.sigma))
    beta = schedule.betas()[1:]
    torch.testing.assert_close((1 - beta).sqrt() * alpha[:-1], alpha[1:], rtol=1e-12, atol=0)
    torch.testing.assert_close((1 - beta) * sigma[:-1] ** 2 + beta, sigma[1:] ** 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
def test_the_loss_is_the_mean_square_per_image_and_zero_at_the_target(prediction):
    schedule, objective = Cosine(), Objective(prediction=prediction)
    x0, noise, _, t = draws(schedule)
    right = target(prediction, x0, noise, *schedule.marginal(t, x0))
    assert torch.equal(objective.loss(right, x0, noise, t, schedule), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(
        objective.loss(right + torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1, 1), x0, noise, t, schedule),
        torch.tensor([1.0, 4, 9, 16], dtype=torch.float64),
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_min_snr_weighs_the_error_of_x0_alike_in_every_prediction(schedule):
    x0, noise, output, t = draws(schedule)
    alpha, sigma = schedule.marginal(t, x0)
    x_t = q_sample(x0, noise, t, schedule)
    guess = estimate("flow", output, x_t, alpha, sigma)
    snr = (alpha / sigma).square().flatten()
    expected = snr.clamp(max=3) * (guess.x0 - x0).square().mean(dim=(1, 2, 3))
    assert snr.min() < 3 < snr.max()
    for prediction in ("eps", "x0", "v", "flow"):
        objective = Objective(prediction=prediction, weighting="min_snr", min_snr_gamma=3.0)
        said = target(prediction, guess.x0, guess.eps, alpha, sigma)
        torch.testing.assert_close(objective.loss(said, x0, noise, t, schedule), expected, rtol=1e-10, atol=0)


def test_min_snr_has_the_published_weights():
    schedule = Linear()
    x0, noise, output, t = draws(schedule)
    snr = schedule.log_snr(t).exp()
    weights = {"eps": snr.clamp(max=5) / snr, "v": snr.clamp(max=5) / (snr + 1), "x0": snr.clamp(max=5)}
    for prediction, weight in weights.items():
        plain = Objective(prediction=prediction).loss(output, x0, noise, t, schedule)
        weighted = Objective(prediction=prediction, weighting="min_snr").loss(output, x0, noise, t, schedule)
        torch.testing.assert_close(weighted, weight * plain, rtol=1e-10, atol=0)


def test_times_of_a_table_are_all_its_entries_and_of_a_flow_all_of_the_line():
    table = UniformTimes().sample(20_000, torch.Generator().manual_seed(0), Linear(timesteps=10))
    assert table.unique().tolist() == list(range(10))
    counts = torch.bincount(table.long()).double()
    assert (counts - 2000).abs().max() < 5 * (20_000 * 0.1 * 0.9) ** 0.5
    line = UniformTimes().sample(20_000, torch.Generator().manual_seed(0), Flow())
    assert abs(line.mean() - 0.5) < 5 * (1 / 12 / 20_000) ** 0.5
    assert line.min() < 0.001
    assert line.max() > 0.999


def test_logit_normal_times_are_normal_after_the_logit():
    t = LogitNormalTimes(mean=0.5, std=2.0).sample(20_000, torch.Generator().manual_seed(0), Flow())
    logits = torch.logit(t)
    assert abs(logits.mean() - 0.5) < 5 * 2 / 20_000**0.5
    assert abs(logits.std() - 2) < 5 * 2 / 40_000**0.5


@pytest.mark.parametrize(
    "objective",
    [
        Objective(),
        Objective(prediction="flow", times=LogitNormalTimes()),
        Objective(prediction="v", times=LogitNormalTimes(mean=-0.5), weighting="min_snr", min_snr_gamma=1.0),
    ],
)
def test_config_round_trip(objective):
    assert from_dict(Objective, to_dict(objective)) == objective


@pytest.mark.parametrize(
    ("make", "field"),
    [(lambda: LogitNormalTimes(std=0.0), "std"), (lambda: Objective(min_snr_gamma=0.0), "min_snr_gamma")],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()
