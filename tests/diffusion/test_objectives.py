import pytest
import torch

from calotype.diffusion import (
    Cosine,
    ELBOWeighting,
    Flow,
    FourierLogVarianceConfig,
    HuberLoss,
    ImportanceTimes,
    L1Loss,
    Linear,
    LogitNormalTimes,
    LogNormalTimes,
    LogVarianceConfig,
    MinSNRWeighting,
    Objective,
    P2Weighting,
    ZeroTerminalSNR,
    q_sample,
)
from calotype.diffusion.prediction import target
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
    terms = Objective(prediction="flow", loss=L1Loss()).terms(output, x0, noise, t, schedule)
    torch.testing.assert_close(terms.total, expected, rtol=1e-12, atol=0)


def test_a_huber_loss_is_square_for_small_errors_and_linear_for_large_ones():
    """And it is Eq. 8 of arXiv:2310.14189, with both sides divided by the root of the number of elements."""
    x0, noise, output, t = draws(Flow())
    difference, count = output - (noise - x0), 3 * 4 * 4
    c = 0.2
    published = (difference.flatten(1).norm(dim=1) ** 2 + c**2 * count).sqrt() - c * count**0.5
    terms = Objective(prediction="flow", loss=HuberLoss(c=c)).terms(output, x0, noise, t, Flow())
    torch.testing.assert_close(terms.total, published / count**0.5, rtol=1e-12, atol=0)
    mean_square = difference.square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(HuberLoss(c=1e4)(difference), mean_square / 2e4, rtol=1e-4, atol=0)
    torch.testing.assert_close(HuberLoss(c=1e-9)(difference), mean_square.sqrt(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("prediction", ["v", "flow"])
def test_the_direction_of_the_velocity_is_compared_position_by_position(prediction):
    schedule = Flow()
    x0, noise, output, t = draws(schedule)
    truth = target(prediction, x0, noise, *schedule.marginal(t, x0))
    objective = Objective(prediction=prediction, direction_weight=0.25)
    for guess, expected in ((3 * truth, 0.0), (-truth, 2.0)):
        found = objective.terms(guess, x0, noise, t, schedule).direction
        torch.testing.assert_close(found, torch.full((4,), expected, dtype=torch.float64))
    terms = objective.terms(output, x0, noise, t, schedule)
    cosine = (output * truth).sum(1) / (output.norm(dim=1) * truth.norm(dim=1))
    torch.testing.assert_close(terms.direction, 1 - cosine.mean(dim=(1, 2)))
    torch.testing.assert_close(terms.total, terms.simple + 0.25 * terms.direction)
    assert terms.logs()["loss_direction"] == terms.direction.mean()


def test_terms_are_multiplied_together():
    arguments, _ = at_entries(Linear(timesteps=100))
    terms = Objective(elbo_weight=1.0).terms(*arguments)
    weights = torch.tensor([1.0, 2, 0, 4], dtype=torch.float64)
    twice = terms.times(weights)
    for name in ("total", "simple", "vlb"):
        assert torch.equal(getattr(twice, name), getattr(terms, name) * weights)
    assert twice.gamma is None


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


@pytest.mark.parametrize(
    "objective",
    [
        Objective(),
        Objective(prediction="flow", times=LogitNormalTimes()),
        Objective(prediction="v", times=LogitNormalTimes(mean=-0.5), weighting=MinSNRWeighting(gamma=1.0)),
        Objective(prediction="x0", loss=L1Loss(), elbo_weight=0.1, elbo_formula="alpha_ratio", v_posterior=0.5),
        Objective(log_variance=LogVarianceConfig(init=-1.0), simple_weight=0.5, times=ImportanceTimes(bins=20)),
        Objective(prediction="v", loss=HuberLoss(c=0.1), direction_weight=0.5, weighting=P2Weighting(k=2.0)),
        Objective(log_variance=FourierLogVarianceConfig(features=8), times=LogNormalTimes(), weighting=ELBOWeighting()),
    ],
)
def test_config_round_trip(objective):
    assert from_dict(Objective, to_dict(objective)) == objective


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: HuberLoss(c=0.0), "c must be above 0"),
        (lambda: Objective(direction_weight=-1.0), "direction_weight"),
        (lambda: Objective(direction_weight=0.5), "'v' or 'flow', not 'eps'"),
        (lambda: Objective(simple_weight=-1.0), "simple_weight"),
        (lambda: Objective(elbo_weight=-1.0), "elbo_weight"),
        (lambda: Objective(v_posterior=1.5), "v_posterior"),
        (lambda: Objective(elbo_formula="alpha_ratio"), "elbo_formula"),
        (lambda: Objective(elbo_weight=1.0).check(Flow()), "elbo_weight needs a schedule with a table .* not Flow"),
        (lambda: Objective(log_variance=LogVarianceConfig()).check(Flow()), "log_variance"),
        (lambda: Objective(times=ImportanceTimes(bins=7)).check(Linear()), "bins must divide .* 1000 timesteps, not 7"),
        (lambda: Objective(weighting=ELBOWeighting()).check(ZeroTerminalSNR(of=Linear())), "ends in pure noise"),
    ],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()
