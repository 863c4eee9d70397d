import math

import pytest
import torch

from calotype.diffusion import Cosine, EDMStochastic, Flow, Heun, Linear, NoiseSource, solve

SEEDS = (3, 4)


def algorithm_2(denoise, x, schedule, grid, churn, s_min, s_max, inflation, noise):
    """As it is written, on z = x / alpha and s = sigma / alpha, for levels within the schedule."""
    s = (grid.sigma / grid.alpha).tolist()
    z = x / grid.alpha[0]

    def d(z, level):
        t = schedule.time(torch.tensor(-2 * math.log(level), dtype=torch.float64))
        alpha = schedule.alpha(t)
        return (z - denoise(alpha * z, t).x0) / level

    for i in range(grid.steps):
        gamma = min(churn / grid.steps, math.sqrt(2) - 1) if s_min <= s[i] <= s_max else 0.0
        raised = s[i] + gamma * s[i]
        if gamma > 0:
            z = z + math.sqrt(raised**2 - s[i] ** 2) * inflation * noise.draw(z.shape[1:], z.dtype)
        slope = d(z, raised)
        end = z + (s[i + 1] - raised) * slope
        if s[i + 1] > 0:
            end = z + (s[i + 1] - raised) * (slope / 2 + d(end, s[i + 1]) / 2)
        z = end
        yield grid.alpha[i + 1] * z


@pytest.mark.parametrize("churn", [0.0, 3.0, 40.0])
@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Flow()])
def test_it_is_algorithm_2_at_any_alpha_and_sigma(gaussian, images, schedule, churn):
    grid = schedule.grid(12, start=0.7 * schedule.t_max)
    solver = EDMStochastic(churn=churn, s_min=0.1, s_max=1.2, inflation=1.01)
    denoise = gaussian(schedule, 0.7, 0.25)
    ours = solve(denoise, images, grid, solver, NoiseSource(SEEDS))
    theirs = algorithm_2(denoise, images, schedule, grid, churn, 0.1, 1.2, 1.01, NoiseSource(SEEDS))
    for state, x in zip(ours, theirs, strict=True):
        torch.testing.assert_close(state.x, x, rtol=0, atol=1e-11)


def test_without_churn_there_is_no_noise_and_from_pure_noise_it_starts_as_heun(gaussian, images):
    denoise, grid = gaussian(Flow(), 0.7, 0.25), Flow().grid(6)
    first, *_ = solve(denoise, images, grid, EDMStochastic(churn=0.0))
    assert torch.equal(first.x, next(solve(denoise, images, grid, Heun())).x)
    with pytest.raises(ValueError, match="NoiseSource"):
        list(solve(denoise, images, grid, EDMStochastic()))


@pytest.mark.parametrize("schedule", [Linear(), Cosine()])
def test_noise_is_not_raised_beyond_the_schedule(gaussian, images, schedule):
    """At its noisiest time none is put in at all: x is evaluated as it is."""
    denoise, seen = gaussian(schedule, 0.7, 0.25), []

    def watching(x, t):
        seen.append((x, t.item()))
        return denoise(x, t)

    list(solve(watching, images, schedule.grid(8), EDMStochastic(s_max=1e9), NoiseSource(SEEDS)))
    assert max(t for _, t in seen) <= schedule.t_max
    torch.testing.assert_close(seen[0][0], images, rtol=0, atol=1e-9)
    assert seen[2][1] > schedule.grid(8).t[1], "the second step is raised"


@pytest.mark.parametrize("schedule", [Linear(), Flow()])
def test_samples_of_a_gaussian_have_the_moments_of_their_recursion(gaussian, schedule):
    """x' is affine in x and in the noise; 5 standard errors of 200 thousand samples."""
    mean, std, n, churn = 0.7, 0.25, 200_000, 6.0
    grid, denoise = schedule.grid(6, start=0.8 * schedule.t_max), gaussian(schedule, mean, std)
    x = grid.alpha[0] * mean + (grid.alpha[0] ** 2 * std**2 + grid.sigma[0] ** 2).sqrt() * NoiseSource([5]).initial(
        (n, 1, 1), torch.float64
    ).view(n, 1, 1, 1)

    class OneSeed(NoiseSource):
        def draw(self, shape, dtype=torch.float32, device="cpu"):
            return super().draw((n, *shape), dtype, device)[0]

    s = grid.sigma / grid.alpha
    m, v = x.mean() / grid.alpha[0], x.var() / grid.alpha[0] ** 2
    solver = EDMStochastic(churn=churn, s_min=0.01, s_max=50.0, inflation=1.0)
    for i, state in enumerate(solve(denoise, x, grid, solver, OneSeed([5]))):
        raised = s[i] * (1 + min(churn / 6, math.sqrt(2) - 1))
        v = v + raised**2 - s[i] ** 2
        a, b = raised / (std**2 + raised**2), s[i + 1] / (std**2 + s[i + 1] ** 2)  # eps = a (z - mean)
        h = s[i + 1] - raised
        gain = 1 + h * a if s[i + 1] == 0 else 1 + h * (a + b * (1 + h * a)) / 2
        m, v = mean + gain * (m - mean), gain**2 * v
        z = state.x / grid.alpha[i + 1]
        assert abs(z.mean() - m) < 5 * (v / n).sqrt()
        assert abs(z.var() - v) < 5 * v * (2 / n) ** 0.5
