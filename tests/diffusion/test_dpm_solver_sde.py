import pytest
import torch

from calotype.diffusion import DDIM, Cosine, DPMSolver, Flow, Linear, NoiseSource, solve

SDE = "sde_dpm_solver++"
SEEDS = (3, 4)


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Flow()])
def test_order_one_is_ddim_with_eta_one_noise_by_noise(gaussian, images, schedule):
    denoise, grid = gaussian(schedule, 0.7, 0.25), schedule.grid(9)
    ours = solve(denoise, images, grid, DPMSolver(order=1, algorithm=SDE), NoiseSource(SEEDS))
    theirs = solve(denoise, images, grid, DDIM(eta=1.0), NoiseSource(SEEDS))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.x, b.x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("schedule", [Linear(), Flow()])
def test_2m_as_it_is_written(gaussian, images, schedule):
    """SDE-DPM-Solver++ of arXiv:2211.01095, with D as in 2M."""
    denoise, grid, noise, x, before = gaussian(schedule, 0.7, 0.25), schedule.grid(9), NoiseSource(SEEDS), images, None
    h = grid.log_snr.diff() / 2
    for i, state in enumerate(solve(denoise, images, grid, DPMSolver(algorithm=SDE), NoiseSource(SEEDS))):
        x0 = data = denoise(x, grid.t[i]).x0
        if before is not None and i < 8 and h[i - 1].isfinite():
            data = x0 + h[i] / (2 * h[i - 1]) * (x0 - before)
        decay = 1 - (-2 * h[i]).exp()
        x = grid.sigma[i + 1] / grid.sigma[i] * (-h[i]).exp() * x + grid.alpha[i + 1] * decay * data
        if i < 8:
            x = x + grid.sigma[i + 1] * decay.sqrt() * noise.draw(x.shape[1:], x.dtype)
        torch.testing.assert_close(state.x, x, rtol=0, atol=1e-12)
        before = x0


@pytest.mark.parametrize("schedule", [Linear(), Flow()])
def test_samples_of_a_gaussian_have_the_moments_of_their_recursion(gaussian, schedule):
    """(x, x_0 before) is affine in itself and in the noise; 5 standard errors of 200 thousand samples."""
    mean, std, n, steps = 0.7, 0.25, 200_000, 8
    grid, denoise = schedule.grid(steps), gaussian(schedule, mean, std)
    x = NoiseSource([5]).initial((n, 1, 1), torch.float64).view(n, 1, 1, 1)

    class OneSeed(NoiseSource):
        def draw(self, shape, dtype=torch.float32, device="cpu"):
            return super().draw((n, *shape), dtype, device)[0]

    h = grid.log_snr.diff() / 2
    m, cov = torch.stack([x.mean(), x.mean() * 0]), torch.diag(torch.stack([x.var(), x.var() * 0]))
    for i, state in enumerate(solve(denoise, x, grid, DPMSolver(algorithm=SDE), OneSeed([5]))):
        alpha, sigma = grid.alpha[i], grid.sigma[i]
        slope = alpha * std**2 / (alpha**2 * std**2 + sigma**2)  # x_0 = constant + slope x
        constant = mean - slope * alpha * mean
        decay = 1 - (-2 * h[i]).exp()
        usable = 0 < i < steps - 1 and h[i - 1].isfinite()
        r = h[i] / (2 * h[i - 1]) if usable else torch.zeros((), dtype=torch.float64)
        of_x = grid.sigma[i + 1] / sigma * (-h[i]).exp() + grid.alpha[i + 1] * decay * (1 + r) * slope
        of_before = -grid.alpha[i + 1] * decay * r
        matrix = torch.stack([torch.stack([of_x, of_before]), torch.stack([slope, slope * 0])])
        offset = torch.stack([grid.alpha[i + 1] * decay * (1 + r) * constant, constant])
        added = torch.diag(torch.stack([grid.sigma[i + 1] ** 2 * decay, decay * 0]))
        m, cov = matrix @ m + offset, matrix @ cov @ matrix.T + added
        assert abs(state.x.mean() - m[0]) < 5 * (cov[0, 0] / n).sqrt()
        assert abs(state.x.var() - cov[0, 0]) < 5 * cov[0, 0] * (2 / n) ** 0.5


def test_higher_orders_come_closer_to_the_data(gaussian):
    """The law of the samples of N(0.7, 0.25^2), with common noise: 2M and 3M at 24 steps against order 1."""
    grid, errors = Linear().grid(24, "log_snr"), []
    x = NoiseSource([5]).initial((50_000, 1, 1), torch.float64).view(-1, 1, 1, 1)
    for order in (1, 2, 3):

        class OneSeed(NoiseSource):
            def draw(self, shape, dtype=torch.float32, device="cpu"):
                return super().draw((len(x), *shape), dtype, device)[0]

        *_, state = solve(gaussian(Linear(), 0.7, 0.25), x, grid, DPMSolver(order=order, algorithm=SDE), OneSeed([5]))
        errors.append(abs(state.x.std() - 0.25).item())
    assert errors[1] < errors[0] / 3, errors
    assert errors[2] < errors[0] / 3, errors
