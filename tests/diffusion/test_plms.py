import itertools
import math

import pytest
import torch

from calotype.diffusion import DDIM, PLMS, Cosine, Flow, Linear, State, map_x0, solve


def even(schedule, steps):
    """A grid with equal steps in sigma / alpha, for which the weights are made."""
    ratio = torch.linspace(4, 0.5, steps + 1, dtype=torch.float64)
    return schedule.grid_at(schedule.time(-2 * ratio.log()), clean=False)


def exact(grid, x):
    spread = (grid.alpha**2 * 0.25**2 + grid.sigma**2).sqrt()
    return [grid.alpha[i] * 0.7 + spread[i] / spread[0] * (x - grid.alpha[0] * 0.7) for i in range(len(grid.t))]


@pytest.mark.parametrize("known", [0, 1, 2, 3])
@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Flow()])
def test_a_step_from_exact_history_errs_as_its_order_says(gaussian, images, schedule, known):
    """One step of Adams-Bashforth of order p errs by h^(p+1); the improved Euler of the first step by h^3."""
    denoise, errors = gaussian(schedule, 0.7, 0.25), []
    for steps in (80, 160, 320):
        grid = even(schedule, steps)
        right = exact(grid, images)
        history = tuple(denoise(right[i], grid.t[i]).eps for i in reversed(range(known)))
        state = State(x=right[known], x0=right[known], t=grid.t[known], history=history)
        errors.append((PLMS().step(denoise, state, grid, known, None).x - right[known + 1]).abs().max().item())
    order = {0: 3, 1: 3, 2: 4, 3: 5}[known]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(order - 0.2 < slope < order + 0.4 for slope in slopes), slopes


def test_the_first_step_evaluates_twice_unless_it_is_the_last(gaussian, images):
    denoise, times = gaussian(Linear(), 0.7, 0.25), []

    def counting(x, t):
        times.append(t.item())
        return denoise(x, t)

    list(solve(counting, images, Linear().grid(3), PLMS()))
    assert times == [999, Linear().grid(3).t[1], *Linear().grid(3).t[1:3]]
    times.clear()
    states = list(solve(counting, images, Linear().grid(1), PLMS()))
    assert times == [999]
    torch.testing.assert_close(states[0].x, next(solve(denoise, images, Linear().grid(1), DDIM())).x)


def test_three_directions_are_remembered(gaussian, images):
    states = list(solve(gaussian(Linear(), 0.7, 0.25), images, Linear().grid(6), PLMS()))
    assert [len(state.history) for state in states] == [1, 2, 3, 3, 3, 3]
    assert all(torch.equal(old, new) for old, new in zip(states[3].history[:2], states[4].history[1:], strict=True))


def test_what_is_done_to_x0_is_done_to_that_of_the_combination(gaussian, images):
    """And the directions that are remembered stay the network's own."""
    plain = gaussian(Linear(), 0.7, 0.25)
    coarse = map_x0(plain, lambda x0: (4 * x0).round() / 4, keep_eps=True)
    grid = Linear().grid(5)
    for state in solve(coarse, images, grid, PLMS()):
        assert torch.equal(state.x0, (4 * state.x0).round() / 4)
    first = next(solve(coarse, images, grid, PLMS()))
    assert torch.equal(first.history[0], plain(images, grid.t[0]).eps)
