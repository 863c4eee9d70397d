import pytest
import torch

from calotype.diffusion import DDIM, DDPM, Cosine, Flow, Linear, NoiseSource, solve

SEEDS = (3, 4)


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
