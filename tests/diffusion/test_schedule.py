import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
import scipy.stats
import torch
from pydantic import Field

from calotype.diffusion import EDM, Betas, Cosine, Flow, Linear, NoiseSchedules, ScaledLinear, Sqrt, ZeroTerminalSNR
from calotype.utils.config import Config, from_dict, to_dict

LDM = ScaledLinear(beta_start=0.0015, beta_end=0.0195)
TABLES = [Linear(), LDM, Sqrt(beta_end=0.001), Cosine()]
SCHEDULES = [*TABLES, ZeroTerminalSNR(of=ScaledLinear(beta_start=0.00085, beta_end=0.012)), Flow(), EDM()]
EVERY_STEPS = [1, 2, 3, 7, 50, 300, 999, 1000]


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("schedule", "golden"),
    [
        (Linear(), "4.0358e-05"),
        (ScaledLinear(beta_start=0.00085, beta_end=0.012), "4.66010e-03"),
        (LDM, "1.42304e-04"),
        (ScaledLinear(), "7.33412e-04"),
        (Cosine(), "2.4288e-09"),
    ],
)
def test_noise_at_the_end_of_published_schedules(schedule, golden):
    """To every digit that is published."""
    last = schedule.alpha(double(999.0)).item() ** 2
    assert f"{last:.{len(golden) - 6}e}" == golden
    assert schedule.alpha(double(0.0)).item() ** 2 > 0.998


@pytest.mark.parametrize("schedule", TABLES)
def test_tables_are_exact_at_integers_and_linear_in_log_alpha_between(schedule):
    t = torch.arange(1000, dtype=torch.float64)
    betas = schedule.betas()
    assert ((betas > 0) & (betas < 1)).all()
    alpha_bar = (1 - betas).cumprod(0)
    torch.testing.assert_close(schedule.alpha(t) ** 2, alpha_bar, rtol=1e-11, atol=0)
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - alpha_bar, rtol=1e-11, atol=0)
    middle = schedule.alpha(t[:-1] + 0.25).log()
    torch.testing.assert_close(middle, torch.lerp(alpha_bar[:-1].log(), alpha_bar[1:].log(), 0.25) / 2)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_log_snr_falls_and_time_inverts_it(schedule):
    t = torch.linspace(schedule.t_min, schedule.t_max, 2501, dtype=torch.float64)
    log_snr = schedule.log_snr(t)
    assert (log_snr.diff() < 0).all()
    torch.testing.assert_close(log_snr, 2 * (schedule.alpha(t) / schedule.sigma(t)).log(), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(schedule.time(log_snr), t, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_answers_come_in_the_dtype_asked_but_from_float64(schedule, dtype):
    t = (torch.tensor([0.125, 0.5]) * schedule.t_max).to(dtype)
    for method in (schedule.alpha, schedule.sigma, schedule.log_snr):
        assert torch.equal(method(t), method(t.double()).to(dtype))


@pytest.mark.parametrize("schedule", TABLES)
def test_a_table_answers_for_its_indices_in_float64(schedule):
    t = torch.arange(1000)
    for method in (schedule.alpha, schedule.sigma, schedule.log_snr):
        assert torch.equal(method(t), method(t.double()))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_plain_number_is_a_time_in_float64(schedule):
    for t in (schedule.t_min, 0.5, 1.0):
        for name in ("alpha", "sigma", "log_snr"):
            assert torch.equal(getattr(schedule, name)(t), getattr(schedule, name)(double(t)[0]))


def test_the_network_is_shown_indices_thousandths_and_logarithms():
    assert Linear().network_time(double(17.5)).item() == 17.5
    assert Flow().network_time(double(0.25)).item() == 250
    assert EDM().network_time(double(math.e)).item() == 0.25


@pytest.mark.parametrize("steps", EVERY_STEPS)
@pytest.mark.parametrize("spacing", ["trailing", "linspace", "quadratic", "log_snr", "karras", "beta"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_grid_has_exactly_the_steps_asked_for(schedule, spacing, steps):
    grid = schedule.grid(steps, spacing)
    assert grid.steps == steps
    assert grid.t[0] == schedule.t_max
    assert (grid.t.diff() < 0).all()
    assert (grid.t[:-1] >= schedule.t_min - 1e-12).all()
    assert (grid.alpha[-1], grid.sigma[-1]) == (1, 0)
    torch.testing.assert_close(grid.sigma[:-1], schedule.sigma(grid.t[:-1]), rtol=0, atol=0)


@pytest.mark.usefixtures("long_walk")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_default_grid_has_every_number_of_steps_up_to_a_thousand(schedule):
    for steps in range(1, 1001):
        grid = schedule.grid(steps)
        assert (grid.steps, grid.t[0], grid.t[-1]) == (steps, schedule.t_max, schedule.t_clean)
        assert (grid.t.diff() < 0).all()
        assert grid.t[-2] >= schedule.t_min


@pytest.mark.parametrize("spacing", ["linspace", "quadratic", "log_snr", "karras", "beta"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_grid_may_start_and_end_at_given_times(schedule, spacing):
    start, end = 0.75 * schedule.t_max, 0.125 * schedule.t_max
    grid = schedule.grid(10, spacing, start=start, end=end)
    assert grid.steps == 10
    torch.testing.assert_close(grid.t[[0, -1]], double(start, end), rtol=1e-9, atol=0)
    assert (grid.t.diff() < 0).all()
    assert grid.sigma[-1] > 0
    later = schedule.grid(10, spacing, start=start)
    assert later.steps == 10
    assert (later.t[0], later.sigma[-1]) == (start, 0)


def test_a_step_is_divided_equally_in_log_snr():
    coarse = LDM.grid(4, "linspace")
    fine = LDM.refine(coarse, [3, 1, 2, 1])
    assert fine.t[[0, 3, 4, 6, 7]].tolist() == coarse.t.tolist()
    assert (fine.alpha[-1], fine.sigma[-1]) == (1, 0)
    steps = fine.log_snr.diff()
    torch.testing.assert_close(steps[:3], (coarse.log_snr[1] - coarse.log_snr[0]).expand(3) / 3, rtol=1e-9, atol=0)
    torch.testing.assert_close(steps[4], steps[5], rtol=1e-9, atol=0)
    for parts, message in (([1, 1, 1, 2], "infinite"), ([1, 1], "parts"), ([1, 1, 1, 0], "parts")):
        with pytest.raises(ValueError, match=message):
            LDM.refine(coarse, parts)


def test_spacings_are_what_they_say():
    assert Linear().grid(1000).t.tolist() == list(range(999, -2, -1))
    assert Linear().grid(4, "trailing").t.tolist() == [999, 749, 499, 249, -1]
    assert Linear().grid(4, "linspace").t.tolist() == [999, 666, 333, 0, -1]
    assert Flow().grid(4).t.tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert Linear().grid(2, "linspace", end=0.0).t.tolist() == [999, 499.5, 0]
    roots = (Linear().grid(9, "quadratic", end=0.0).t + 1).sqrt()
    torch.testing.assert_close(roots, torch.linspace(1000**0.5, 1, 10, dtype=torch.float64))
    steps = Linear().grid(9, "log_snr").log_snr[:-1].diff()
    torch.testing.assert_close(steps, steps[:1].expand(8), rtol=1e-9, atol=0)
    assert Linear().grid(4, "leading").t.tolist() == [750, 500, 250, 0, -1]
    assert Flow().grid(4, "leading").t.tolist() == pytest.approx([0.751, 0.501, 0.251, 0.001, 0])
    quantiles = scipy.stats.beta.ppf(np.linspace(1, 0, 9), 0.6, 0.6)
    torch.testing.assert_close(Linear().grid(9, "beta").t[:-1] / 999, torch.from_numpy(quantiles), rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", [EDM(), Linear(), Cosine()])
def test_karras_spacing_is_that_of_edm(schedule):
    """Eq. 5 of arXiv:2206.00364 with rho = 7, in sigma / alpha."""
    least, most = ((-schedule.log_snr(double(t)) / 2).exp().item() for t in (schedule.t_min, schedule.t_max))
    grid = schedule.grid(18, "karras")
    published = [(most ** (1 / 7) + i / 17 * (least ** (1 / 7) - most ** (1 / 7))) ** 7 for i in range(18)]
    torch.testing.assert_close((grid.sigma / grid.alpha)[:-1], double(*published), rtol=1e-9, atol=0)


def test_edm_walks_along_its_own_grid_unless_asked_otherwise():
    assert EDM().grid(18).t.tolist() == EDM().grid(18, "karras").t.tolist() != EDM().grid(18, "trailing").t.tolist()
    assert EDM().grid(3, "trailing").t.tolist() == pytest.approx([80, 80 * 2 / 3, 80 / 3, 0])


def test_the_reference_grid_keeps_its_stride_its_offset_and_its_end():
    grid = LDM.grid(30, "reference")
    assert grid.steps == 31  # stride 1000 // 30
    assert grid.t[:2].tolist() == [991, 958]
    assert grid.t[-2:].tolist() == [1, 0]
    assert grid.sigma[-1] > 0
    with pytest.raises(ValueError, match=r"^steps: the reference cannot take 300"):
        LDM.grid(300, "reference")
    with pytest.raises(ValueError, match="spacing 'reference'"):
        Flow().grid(10, "reference")


def test_the_quadratic_reference_grid_is_that_of_numpy_with_its_repetitions():
    for steps in (1, 2, 5, 21, 54, 200, 961):
        ours = LDM.grid(steps, "reference_quad").t
        theirs = (np.linspace(0, np.sqrt(1000 * 0.8), steps) ** 2).astype(int) + 1
        assert ours.tolist() == [*theirs[::-1], 0]
    assert len(set(LDM.grid(200, "reference_quad").t[:-1].tolist())) == 187


def test_outside_the_table_the_ends_hold_or_go_on():
    t = double(-0.5, 0.0, 0.5, 998.5, 999.0, 1000.0)
    held, extended = LDM.log_alpha(t), LDM.log_alpha(t, outside="extend")
    assert torch.equal(held, torch.stack([held[1], *held[1:5], held[4]]))
    torch.testing.assert_close(extended[1:5], held[1:5], rtol=0, atol=0)
    torch.testing.assert_close(extended[0], 2 * extended[1] - extended[2], rtol=1e-12, atol=0)
    torch.testing.assert_close(extended[5], 3 * extended[4] - 2 * extended[3], rtol=1e-12, atol=0)
    log_snr = 2 * extended - torch.log(-torch.expm1(2 * extended))
    torch.testing.assert_close(LDM.time(log_snr, outside="extend"), t, rtol=1e-9, atol=1e-9)
    assert LDM.time(log_snr)[[0, -1]].tolist() == [0, 999]


def test_betas_may_be_given_in_any_sequence():
    same = Betas(values=LDM.betas().tolist())
    assert same == Betas(values=tuple(LDM.betas().tolist()))
    assert same.timesteps == 1000
    torch.testing.assert_close(same.alpha(double(0.0, 17.5, 999.0)), LDM.alpha(double(0.0, 17.5, 999.0)))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Linear().grid(0), "steps"),
        (lambda: Linear().grid(1001), "steps"),
        (lambda: Flow().grid(1001, "leading"), "steps"),
        (lambda: Linear().grid(5, "leading", end=10.0), "end"),
        (lambda: Linear().grid(5, end=10.0), "end"),
        (lambda: Linear().grid(5, "reference", start=500.0), "start"),
        (lambda: Linear().grid(5, start=1000.0), "start"),
        (lambda: Linear().grid(5, "linspace", start=10.0, end=10.0), "end"),
    ],
)
def test_grids_that_cannot_be_are_refused(make, field):
    with pytest.raises(ValueError, match=rf"\b{field}\b"):
        make()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Linear(timesteps=1), "timesteps"),
        (lambda: ScaledLinear(beta_start=0.0), "beta_start"),
        (lambda: Linear(beta_end=1.0), "beta_end"),
        (lambda: Sqrt(beta_start=0.1, beta_end=0.01), "beta_end"),
        (lambda: Cosine(offset=-1.0), "offset"),
        (lambda: Betas(values=(0.1, 1.0)), "values"),
        (lambda: Betas(values=(0.1,)), "timesteps"),
        (lambda: EDM(sigma_min=0.0), "sigma_min"),
        (lambda: EDM(sigma_max=math.inf), "sigma_max"),
    ],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()


@dataclass(frozen=True, kw_only=True)
class Tagged(Config):
    schedule: Annotated[NoiseSchedules, Field(discriminator="kind")] = Flow()


@pytest.mark.parametrize(
    "schedule", [*SCHEDULES, Linear(timesteps=10), ScaledLinear(beta_end=0.01), Betas(values=(0.1, 0.2))]
)
def test_the_kind_decides_which_schedule_a_config_becomes(schedule):
    schedule.alpha(double(0.5))  # what is cached must not leak into the data
    assert from_dict(NoiseSchedules, to_dict(schedule)) == schedule
    assert from_dict(Tagged, to_dict(Tagged(schedule=schedule))) == Tagged(schedule=schedule)


@pytest.mark.parametrize("data", [{"kind": "quadratic"}, {"kind": "flow", "timesteps": 10}])
def test_unknown_kinds_and_foreign_settings_are_refused(data):
    with pytest.raises(ValueError, match="config"):
        from_dict(NoiseSchedules, data)
