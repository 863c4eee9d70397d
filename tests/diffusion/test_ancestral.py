import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from calotype.diffusion import (
    DDIM,
    DDPM,
    EDM,
    Cosine,
    Estimate,
    Flow,
    Linear,
    NoiseSource,
    ScaledLinear,
    State,
    ZeroTerminalSNR,
    q_sample,
    solve,
)

SEEDS = (3, 4)
SCHEDULES = [Linear(), ScaledLinear(), Cosine(), ZeroTerminalSNR(of=Cosine()), Flow(), EDM()]
SIGNS = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, -1.0, 1.0]], dtype=torch.float64).view(2, 4, 1, 1, 1)
places = some.lists(some.floats(0, 1), min_size=3, max_size=3, unique=True).map(sorted)


class Signs(NoiseSource):
    """Noise whose mean is 0 and whose variance is 1, exactly, over four rows."""

    def draw(self, shape, dtype=torch.float32, device="cpu"):
        return SIGNS[1].to(dtype)


def grid_of(schedule, *shares):
    """Nodes at shares of the way from the least noisy time to the noisiest."""
    t = schedule.t_min + torch.tensor(shares, dtype=torch.float64) * (schedule.t_max - schedule.t_min)
    return schedule.grid_at(t, clean=False)


def walk(denoise, x, grid, solver):
    return list(solve(denoise, x, grid, solver, NoiseSource(SEEDS)))


@pytest.mark.parametrize("steps", [50, 12])
@pytest.mark.parametrize("schedule", [Linear(timesteps=50), Cosine(timesteps=50), Flow()])
def test_ddim_with_eta_one_is_ddpm_noise_by_noise(gaussian, images, schedule, steps):
    denoise, grid = gaussian(schedule, 0.7, 0.25), schedule.grid(steps)
    for ours, theirs in zip(
        walk(denoise, images, grid, DDPM()), walk(denoise, images, grid, DDIM(eta=1.0)), strict=True
    ):
        torch.testing.assert_close(ours.x, theirs.x, rtol=0, atol=1e-10)
        torch.testing.assert_close(ours.x0, theirs.x0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("schedule", [Linear(timesteps=50), Cosine(timesteps=50)])
def test_both_variances_on_consecutive_times(schedule):
    beta, grid = schedule.betas(), schedule.grid(50)
    bar = (1 - beta).cumprod(0)
    for i, t in enumerate(range(49, -1, -1)):
        before = bar[t - 1] if t else torch.tensor(1.0, dtype=torch.float64)
        smallest = beta[t] * (1 - before) / (1 - bar[t])
        for v in (0.0, 0.3, 1.0):
            variance = DDPM(v_posterior=v).posterior(grid, i)[2]
            torch.testing.assert_close(variance, (1 - v) * smallest + v * beta[t], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
@pytest.mark.parametrize(("v", "std"), [(0.0, 0.0), (1.0, 1.0)])
def test_each_variance_keeps_the_law_of_the_data_it_is_made_for(gaussian, schedule, v, std):
    """A single image (v = 0) and standard normal data (v = 1): x' has its marginal variance in one step of any size."""
    grid, solver = schedule.grid(7, "linspace", end=schedule.t_min), DDPM(v_posterior=v)
    probe = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    for i in range(7):
        of_x0, of_x, s2 = solver.posterior(grid, i)
        x0 = gaussian(schedule, 0.0, std)(probe, grid.t[i]).x0.flatten()
        gain = of_x0 * (x0[1] - x0[0]) + of_x
        before, after = (grid.alpha[j] ** 2 * std**2 + grid.sigma[j] ** 2 for j in (i, i + 1))
        torch.testing.assert_close(gain**2 * before + s2, after, rtol=1e-10, atol=0)


@given(schedule=some.sampled_from(SCHEDULES), shares=places)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_noise_may_be_added_in_two_steps_between_any_times(schedule, shares):
    """q(x_t | x_r) and then q(x_u | x_t) are q(x_u | x_r), t not only an index away."""
    first, second, third = shares

    def steps(*nodes):
        grid = grid_of(schedule, *nodes)
        return [
            (grid.alpha[i] / grid.alpha[i + 1], DDPM(v_posterior=1.0).posterior(grid, i)[2])
            for i in range(len(nodes) - 1)
        ]

    ((kept, added),) = steps(third, first)
    (kept2, added2), (kept1, added1) = steps(third, second, first)
    assert min(added, added1, added2) >= 0
    torch.testing.assert_close(kept1 * kept2, kept, rtol=1e-12, atol=0)
    torch.testing.assert_close(kept2**2 * added1 + added2, added, rtol=0, atol=1e-12)


@given(
    schedule=some.sampled_from(SCHEDULES),
    shares=places,
    solver=some.builds(DDPM) | some.builds(DDIM, eta=some.floats(0, 1)),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_step_back_from_the_marginal_is_the_marginal_between_any_times(schedule, shares, solver):
    """Over q(x_t | x_0), q(x_s | x_t, x_0) is q(x_s | x_0) (Eq. 7, arXiv:2010.02502), by the moments of four rows."""
    grid, x0 = grid_of(schedule, shares[2], shares[0]), torch.full((4, 1, 1, 1), 0.7, dtype=torch.float64)

    def denoise(x, t):
        alpha, sigma = schedule.marginal(t, x)
        return Estimate(x0, (x - alpha * x0) / sigma, alpha, sigma)

    x = q_sample(x0, SIGNS[0], grid.t[0], schedule)
    x = solver.step(denoise, State(x=x, x0=x, t=grid.t[0]), grid, 0, Signs(range(4))).x
    torch.testing.assert_close(x.mean(), grid.alpha[1] * 0.7, rtol=0, atol=1e-12)
    torch.testing.assert_close(x.var(correction=0), grid.sigma[1] ** 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", [DDPM, lambda **options: DDIM(eta=1.0, **options)])
def test_temperature_scales_the_noise(gaussian, images, solver):
    denoise, grid = gaussian(Linear(), 0.7, 0.25), Linear().grid(5)
    first = [walk(denoise, images, grid, solver(temperature=t))[0].x for t in (0.0, 0.5, 1.0)]
    assert (first[2] - first[0]).abs().max() > 0.1
    torch.testing.assert_close(first[1], (first[0] + first[2]) / 2, rtol=0, atol=1e-12)


def test_noise_is_asked_for_by_name_and_the_last_step_needs_none(gaussian, images):
    denoise, grid = gaussian(Linear(), 0.7, 0.25), Linear().grid(5)
    with pytest.raises(ValueError, match="NoiseSource"):
        list(solve(denoise, images, grid, DDPM(v_posterior=1.0)))
    (only,) = solve(denoise, images, grid.tail(4), DDPM(v_posterior=1.0))
    torch.testing.assert_close(only.x, only.x0, rtol=0, atol=1e-12)
