"""The variational bound, where the expectation is exact: quadratic functions of Gaussians, summed over mean +- std."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import calotype as ct
from calotype.diffusion import Cosine, Flow, Grid, Linear, NoiseSource, ScaledLinear
from calotype.diffusion.likelihood import variational_bound

MEAN, STD = 0.7, 0.5
ENTROPY = 0.5 * math.log(2 * math.pi * math.e * STD**2)
X = torch.tensor([MEAN - STD, MEAN - STD, MEAN + STD, MEAN + STD], dtype=torch.float64).view(4, 1, 1, 1)


class Signs(NoiseSource):
    """Noise of both signs for either value of ``X``: a mean over rows is the expectation of whatever is quadratic."""

    def draw(self, shape, dtype=torch.float32, device="cpu"):
        return torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=dtype).view(4, 1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Oracle(ct.DDPM):
    """DDPM with the variance of the true reverse step for data from N(MEAN, STD^2)."""

    def posterior(self, grid: Grid, i: int):
        of_x0, of_x, variance = super().posterior(grid, i)
        return of_x0, of_x, variance + of_x0**2 * remaining(grid.alpha[i], grid.sigma[i])


def remaining(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Var[x_0 | x_t]."""
    return STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)


def decoder(grid: Grid) -> Callable[[Tensor, Tensor], Tensor]:
    """The true p(x_0 | x_t) at the last noisy node."""
    variance = remaining(grid.alpha[-2], grid.sigma[-2])
    return lambda x, mean: (0.5 * ((x - mean).square() / variance + (2 * math.pi * variance).log())).flatten(1).sum(1)


def divergence_at_the_end(grid: Grid) -> float:
    """KL(q(x_T) || N(0, 1)) of the marginal, N(alpha MEAN, alpha^2 STD^2 + sigma^2)."""
    alpha, sigma = float(grid.alpha[0]), float(grid.sigma[0])
    variance = alpha**2 * STD**2 + sigma**2
    return 0.5 * (alpha**2 * MEAN**2 + variance - 1 - math.log(variance))


@pytest.mark.parametrize("schedule", [Linear(), ScaledLinear(), Cosine(), Flow()])
@pytest.mark.parametrize("steps", [2, 7, 50])
def test_with_the_true_reverse_steps_nothing_is_lost_in_any_number_of_them(gaussian, schedule, steps):
    grid = schedule.grid(steps)
    found = variational_bound(
        gaussian(schedule, MEAN, STD), X, grid, Signs(range(4)), solver=Oracle(), decoder=decoder(grid)
    )
    assert found.total.mean().item() == pytest.approx(ENTROPY + divergence_at_the_end(grid), abs=1e-9)


def test_with_the_variances_beta_the_gap_halves_with_twice_the_steps(gaussian):
    gaps = []
    for steps in (100, 200, 400, 800):
        scale = 1000 / steps
        schedule = Linear(timesteps=steps, beta_start=1e-4 * scale, beta_end=0.02 * scale)
        grid, solver = schedule.grid(steps), ct.DDPM(v_posterior=1.0)
        found = variational_bound(
            gaussian(schedule, MEAN, STD), X, grid, Signs(range(4)), solver=solver, decoder=decoder(grid)
        )
        gaps.append(found.total.mean().item() - ENTROPY - divergence_at_the_end(grid))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(gaps)]
    assert min(gaps) > 0
    assert orders == pytest.approx([1, 1, 1], abs=0.1)


def test_parts_of_the_steps_estimate_their_sum(gaussian):
    schedule = Linear(timesteps=60)
    grid, rows = schedule.grid(60), 1500
    x = X[:1].expand(rows, 1, 1, 1)
    denoise = gaussian(schedule, MEAN, STD)
    whole = variational_bound(denoise, x, grid, NoiseSource(range(rows))).steps
    parts = variational_bound(denoise, x, grid, NoiseSource(range(rows)), evaluations=7).steps
    error = math.sqrt((whole.var().item() + parts.var().item()) / rows)
    assert abs(whole.mean().item() - parts.mean().item()) < 5 * error
    assert error < 0.07 * whole.mean().item()
    again = variational_bound(denoise, x[:4], grid, NoiseSource(range(10, 14)), evaluations=7).steps
    torch.testing.assert_close(again, parts[10:14], rtol=1e-12, atol=0)


def test_the_default_decoder_is_a_density_around_the_estimate(gaussian):
    """As wide as the noise of the last node, and sure of the estimate: for a point of data it is the density at 0."""
    schedule = Linear(timesteps=10)
    grid = schedule.grid(10)
    found = variational_bound(gaussian(schedule, MEAN, 1e-9), X[:1] * 0 + MEAN, grid, NoiseSource([0]))
    spread = float(grid.sigma[-2] / grid.alpha[-2])
    assert found.reconstruction.item() == pytest.approx(math.log(spread * math.sqrt(2 * math.pi)), abs=1e-6)
    assert found.steps.item() == pytest.approx(0, abs=1e-9)


def test_grids_that_end_in_noise_are_refused(gaussian):
    schedule = Linear()
    for grid in (schedule.grid(10, "linspace", end=5.0), schedule.grid(1)):
        with pytest.raises(ValueError, match="at least two steps that ends at a clean node"):
            variational_bound(gaussian(schedule, MEAN, STD), X, grid, Signs(range(4)))
    with pytest.raises(ValueError, match="evaluations must be at least 1"):
        variational_bound(gaussian(schedule, MEAN, STD), X, schedule.grid(5), Signs(range(4)), evaluations=0)
