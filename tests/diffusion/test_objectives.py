import math

import pytest
import torch

from calotype.diffusion import Cosine, Flow, Linear, LogitNormalTimes, Objective, UniformTimes, q_sample
from calotype.diffusion.log_variance import LogVariance, LogVarianceConfig
from calotype.diffusion.prediction import estimate, target
from calotype.diffusion.variational_bound import bound_weights
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
    assert torch.equal(objective.terms(right, x0, noise, t, schedule).total, torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(
        objective.terms(right + torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1, 1), x0, noise, t, schedule).total,
        torch.tensor([1.0, 4, 9, 16], dtype=torch.float64),
    )


def test_l1_is_the_mean_of_absolute_values():
    schedule = Flow()
    x0, noise, output, t = draws(schedule)
    expected = (output - (noise - x0)).abs().flatten(1).mean(dim=1)
    terms = Objective(prediction="flow", loss="l1").terms(output, x0, noise, t, schedule)
    torch.testing.assert_close(terms.total, expected, rtol=1e-12, atol=0)


def at_entries(schedule, prediction="eps"):
    """Draws at entries of the table, one of them the first, and the plain error there."""
    x0, noise, output, _ = draws(schedule)
    t = torch.tensor([0.0, 1, 40, 99], dtype=torch.float64)
    error = (output - target(prediction, x0, noise, *schedule.marginal(t, x0))).square().mean(dim=(1, 2, 3))
    return (output, x0, noise, t, schedule), error


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_weights_of_the_two_terms(prediction):
    arguments, error = at_entries(Linear(timesteps=100), prediction)
    bound = bound_weights(Linear(timesteps=100), prediction, v_posterior=0.3)[[0, 1, 40, 99]]
    terms = Objective(prediction=prediction, simple_weight=0.7, elbo_weight=0.2, v_posterior=0.3).terms(*arguments)
    torch.testing.assert_close(terms.simple, error, rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.vlb, bound * error, rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.total, 0.7 * error + 0.2 * bound * error, rtol=1e-12, atol=0)
    assert terms.gamma is None


def test_a_log_variance_divides_the_error_and_is_added():
    arguments, error = at_entries(Linear(timesteps=100))
    logvar = torch.tensor([-1.0, 0.0, 0.5, 2.0], dtype=torch.float64)
    terms = Objective(simple_weight=0.5, elbo_weight=0.1).terms(*arguments, logvar)
    torch.testing.assert_close(terms.gamma, error / logvar.exp() + logvar, rtol=1e-12, atol=0)
    torch.testing.assert_close(terms.total, 0.5 * terms.gamma + 0.1 * terms.vlb, rtol=1e-12, atol=0)


def test_a_log_variance_learns_the_mean_error_of_each_time():
    learned, schedule = LogVarianceConfig(init=0.3).build(Linear(timesteps=4)), Linear(timesteps=4)
    assert isinstance(learned, LogVariance)
    assert {key: value.tolist() for key, value in learned.state_dict().items()} == {"logvar": pytest.approx([0.3] * 4)}
    t, error = torch.tensor([0.0, 1, 1, 3]), torch.tensor([1.0, 2, 4, 5])
    output, zero = error.sqrt().view(4, 1, 1, 1), torch.zeros(4, 1, 1, 1)
    for _ in range(100):
        total = Objective().terms(output, zero, zero, t, schedule, learned(t)).total.sum()
        (gradient,) = torch.autograd.grad(total, learned.logvar)
        learned.logvar.data -= 0.3 * gradient
    assert learned.logvar.tolist() == pytest.approx([0.0, math.log(3), 0.3, math.log(5)], abs=1e-3)


def test_logs_have_the_names_of_the_reference():
    arguments, error = at_entries(Linear(timesteps=100))
    plain = Objective().terms(*arguments)
    learned = Objective(elbo_weight=1.0).terms(*arguments, torch.ones(4, dtype=torch.float64))
    flow = Objective(prediction="flow").terms(*arguments[:3], arguments[3] / 100, Flow())
    assert [set(each.logs()) for each in (plain, learned, flow)] == [
        {"loss", "loss_simple", "loss_vlb"},
        {"loss", "loss_simple", "loss_vlb", "loss_gamma"},
        {"loss", "loss_simple"},
    ]
    assert learned.logs()["loss_simple"] == error.mean()
    assert learned.logs()["loss"] == (learned.gamma + learned.vlb).mean()


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
        torch.testing.assert_close(objective.terms(said, x0, noise, t, schedule).total, expected, rtol=1e-10, atol=0)


def test_min_snr_has_the_published_weights():
    schedule = Linear()
    x0, noise, output, t = draws(schedule)
    snr = schedule.log_snr(t).exp()
    weights = {"eps": snr.clamp(max=5) / snr, "v": snr.clamp(max=5) / (snr + 1), "x0": snr.clamp(max=5)}
    for prediction, weight in weights.items():
        plain = Objective(prediction=prediction).terms(output, x0, noise, t, schedule).total
        weighted = Objective(prediction=prediction, weighting="min_snr").terms(output, x0, noise, t, schedule).total
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
        Objective(prediction="x0", loss="l1", elbo_weight=0.1, elbo_formula="alpha_ratio", v_posterior=0.5),
        Objective(log_variance=LogVarianceConfig(init=-1.0), simple_weight=0.5),
    ],
)
def test_config_round_trip(objective):
    assert from_dict(Objective, to_dict(objective)) == objective


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: LogitNormalTimes(std=0.0), "std"),
        (lambda: Objective(min_snr_gamma=0.0), "min_snr_gamma"),
        (lambda: Objective(simple_weight=-1.0), "simple_weight"),
        (lambda: Objective(elbo_weight=-1.0), "elbo_weight"),
        (lambda: Objective(v_posterior=1.5), "v_posterior"),
        (lambda: Objective(elbo_formula="alpha_ratio"), "elbo_formula"),
        (lambda: Objective(weighting="min_snr", loss="l1"), "loss"),
        (lambda: Objective(elbo_weight=1.0).check(Flow()), "elbo_weight needs a schedule with a table .* not Flow"),
        (lambda: Objective(log_variance=LogVarianceConfig()).check(Flow()), "log_variance"),
    ],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()
