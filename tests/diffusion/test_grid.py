"""Grids of any schedule, spacing and number of steps."""

from typing import get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from calotype.diffusion import (
    DDIM,
    DDPM,
    EDM,
    PLMS,
    Cosine,
    DPMSolver,
    Estimate,
    Flow,
    Heun,
    Linear,
    NoiseSource,
    ScaledLinear,
    Spacing,
    Sqrt,
    ZeroTerminalSNR,
    solve,
)

BY_TIME = ("trailing", "leading")
SPACINGS = [name for name in get_args(Spacing) if not name.startswith("reference")]
tables = st.one_of(
    st.builds(
        lambda kind, start, ratio, timesteps: kind(beta_start=start, beta_end=ratio * start, timesteps=timesteps),
        st.sampled_from([Linear, ScaledLinear, Sqrt]),
        st.floats(1e-5, 1e-3),
        st.floats(1, 50),
        st.integers(2, 1200),
    ),
    st.builds(Cosine, offset=st.floats(1e-3, 0.1), timesteps=st.integers(2, 1200)),
)
schedules = st.one_of(
    tables,
    tables.map(lambda table: ZeroTerminalSNR(of=table)),
    st.just(Flow()),
    st.builds(EDM, sigma_min=st.floats(1e-4, 0.1), sigma_max=st.floats(1, 200)),
)
thorough = settings(max_examples=100, deadline=None, derandomize=True)


@thorough
@given(schedules, st.sampled_from(SPACINGS), st.integers(1, 1000), st.floats(0.5, 1))
def test_any_number_of_steps_falls_from_start_to_the_clean_image(schedule, spacing, steps, share):
    start = schedule.t_min + share * (schedule.t_max - schedule.t_min)
    stride, least = (start - schedule.t_clean) / steps, schedule.t_min - schedule.t_clean
    assume(share == 1 or abs(stride / least - 1) > 1e-9)  # rounding decides
    if spacing in BY_TIME and stride < least:
        with pytest.raises(ValueError, match="steps"):
            schedule.grid(steps, spacing, start=start)
        return
    grid = schedule.grid(steps, spacing, start=start)
    assert grid.steps == steps
    assert (grid.t.diff() < 0).all()
    assert (grid.log_snr.diff() > 0).all()
    assert (grid.t[-1], grid.alpha[-1], grid.sigma[-1]) == (schedule.t_clean, 1, 0)
    assert schedule.t_min - 1e-12 <= grid.t[-2] <= grid.t[0] <= start + 1e-12
    if spacing == "leading":
        assert grid.t[-2].item() == pytest.approx(schedule.t_min, abs=1e-9)
    else:
        assert grid.t[0] == start


@thorough
@given(schedules, st.sampled_from([name for name in SPACINGS if name not in BY_TIME]), st.integers(1, 100), st.data())
def test_with_an_end_there_are_as_many_steps_between_the_two_times(schedule, spacing, steps, data):
    shares = data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: abs(pair[0] - pair[1]) > 1e-3))
    end, start = (schedule.t_min + share * (schedule.t_max - schedule.t_min) for share in sorted(shares))
    grid = schedule.grid(steps, spacing, start=start, end=end)
    assert grid.steps == steps
    assert grid.t[0] == start
    assert grid.t[-1].item() == pytest.approx(end, rel=1e-9, abs=1e-9)
    assert (grid.t.diff() < 0).all()
    assert grid.sigma[-1] > 0


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.sampled_from([Linear(), Cosine(), ZeroTerminalSNR(of=ScaledLinear()), Flow(), EDM()]),
    st.sampled_from(SPACINGS),
    st.sampled_from(
        [DDIM(), DDIM(eta=1.0), DDPM(), DPMSolver(), DPMSolver(order=3, method="singlestep"), Heun(), PLMS()]
    ),
    st.integers(1, 40),
)
def test_solvers_take_all_of_them_and_ask_as_often_as_they_say(schedule, spacing, solver, steps):
    """Data of a single value are found whatever the steps; no time outside the schedule is asked about."""
    times = []

    def denoise(x, t):
        times.append(t.item())
        alpha, sigma = schedule.marginal(t, x)
        return Estimate(torch.full_like(x, 0.7), (x - 0.7 * alpha) / sigma, alpha, sigma)

    noise = NoiseSource([0])
    *_, last = solve(denoise, noise.initial((1, 2, 2), torch.float64), schedule.grid(steps, spacing), solver, noise)
    assert len(times) == solver.evaluations(steps)
    assert schedule.t_min - 1e-12 <= min(times) <= max(times) <= schedule.t_max
    torch.testing.assert_close(last.x, torch.full_like(last.x, 0.7), rtol=0, atol=1e-9)
