import itertools

import pytest
import torch

from calotype.diffusion import Cosine, Flow, Linear, solve_adaptively


def walk(gaussian, images, schedule, **options):
    """The error of a walk against the closed form, its steps and its evaluations."""
    denoise, calls = gaussian(schedule, 0.7, 0.25), []

    def counting(x, t):
        calls.append(t.item())
        return denoise(x, t)

    start = min(schedule.t_max, options.pop("start", schedule.t_max))
    ends = torch.tensor([start, schedule.t_min], dtype=torch.float64)
    states = list(solve_adaptively(counting, images, schedule, start=start, **options))
    alpha, sigma = schedule.alpha(ends), schedule.sigma(ends)
    spread = (alpha**2 * 0.25**2 + sigma**2).sqrt()
    exact = alpha[1] * 0.7 + spread[1] / spread[0] * (images - alpha[0] * 0.7)
    return (states[-1].x - exact).abs().max().item(), states, calls


@pytest.mark.usefixtures("long_walk")
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("algorithm", ["dpm_solver++", "dpm_solver"])
@pytest.mark.parametrize(("schedule", "start"), [(Linear(), 999.0), (Cosine(), 990.0), (Flow(), 0.99)])
def test_a_tighter_tolerance_errs_less_in_more_steps(gaussian, images, schedule, start, algorithm, order):
    options = {"start": start, "algorithm": algorithm, "order": order}
    rough, few, _ = walk(gaussian, images, schedule, rtol=0.05, atol=0.05, **options)
    fine, many, calls = walk(gaussian, images, schedule, rtol=1e-4, atol=1e-4, **options)
    assert fine < rough / 8
    assert fine < 3e-3
    assert len(many) > len(few)
    assert len(calls) % order == 0
    assert len(calls) >= order * len(many)
    assert many[-1].t.item() == pytest.approx(schedule.t_min, abs=1e-6)
    assert all(a.t > b.t for a, b in itertools.pairwise(many))


def test_what_cannot_be_is_refused(gaussian, images):
    with pytest.raises(ValueError, match="pure noise"):
        next(solve_adaptively(gaussian(Flow(), 0.7, 0.25), images, Flow()))
    with pytest.raises(ValueError, match="order"):
        next(solve_adaptively(gaussian(Linear(), 0.7, 0.25), images, Linear(), order=4))
    with pytest.raises(FloatingPointError, match="not finite"):
        next(solve_adaptively(gaussian(Linear(), float("nan"), 0.25), images, Linear()))
