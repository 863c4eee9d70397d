import pytest
import torch

from calotype.diffusion import (
    Cosine,
    Denoiser,
    Linear,
    MinSNRWeighting,
    Objective,
    ScaledLinear,
    ZeroTerminalSNR,
    q_sample,
)
from calotype.diffusion.variational_bound import bound_weights

PUBLISHED = ScaledLinear(beta_start=0.00085, beta_end=0.012)
TABLES = [PUBLISHED, Linear(), Cosine(), Linear(timesteps=2)]


def indices(schedule):
    return torch.arange(schedule.timesteps, dtype=torch.float64)


@pytest.mark.parametrize("table", TABLES)
def test_it_begins_as_the_table_and_ends_in_pure_noise_exactly(table):
    alpha, sigma = (f(indices(table)) for f in (ZeroTerminalSNR(of=table).alpha, ZeroTerminalSNR(of=table).sigma))
    assert alpha[0].item() == pytest.approx(table.alpha(indices(table)[0]).item(), rel=1e-15)
    assert (alpha[-1], sigma[-1]) == (0, 1)
    assert ZeroTerminalSNR(of=PUBLISHED).alpha(torch.tensor(0.0)) ** 2 == pytest.approx(0.99915, abs=1e-9)


@pytest.mark.parametrize("table", TABLES)
def test_entries_are_those_of_the_algorithm(table):
    """Algorithm 1 of arXiv:2305.08891, line by line, from its betas to its betas."""
    root = (1 - table.betas()).cumprod(0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * first / (first - last)
    bar = root**2
    betas = 1 - torch.cat([bar[:1], bar[1:] / bar[:-1]])
    torch.testing.assert_close(ZeroTerminalSNR(of=table).betas(), betas, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("table", TABLES)
def test_between_entries_alpha_goes_on_falling_and_time_inverts_it_to_the_end(table):
    schedule = ZeroTerminalSNR(of=table)
    t = torch.linspace(0, schedule.t_max, 10 * schedule.timesteps - 9, dtype=torch.float64)
    alpha, log_snr = schedule.alpha(t), schedule.log_snr(t)
    assert alpha.isfinite().all()
    assert (alpha.diff() < 0).all()
    assert log_snr[-1] == -torch.inf
    torch.testing.assert_close(schedule.time(log_snr), t, rtol=0, atol=1e-8)
    assert (
        schedule.alpha(torch.tensor([-1.0, schedule.t_max + 1])).tolist() == schedule.alpha(t[[0, -1]].float()).tolist()
    )


def test_predicting_eps_is_refused_and_v_is_learned_with_finite_weights():
    schedule = ZeroTerminalSNR(of=PUBLISHED)
    with pytest.raises(ValueError, match="prediction 'eps'"):
        Denoiser(lambda x, t: x, schedule, "eps")
    weights = bound_weights(schedule, "v")
    assert weights.isfinite().all()
    snr = schedule.log_snr(torch.tensor(998.0, dtype=torch.float64)).exp()
    torch.testing.assert_close(weights[-1], snr / 2, rtol=1e-9, atol=0)  # what the last step loses, and v = -x_0
    x0, noise = torch.randn(2, 2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([999.0, 500.0])
    assert torch.equal(q_sample(x0, noise, t, schedule)[0], noise[0])
    objective = Objective(prediction="v", weighting=MinSNRWeighting(), elbo_weight=1.0)
    assert objective.terms(noise, x0, noise, t, schedule).total.isfinite().all()
