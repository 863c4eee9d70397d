import pytest
import torch

from calotype.diffusion import (
    EDM,
    Cosine,
    Flow,
    ImportanceTimes,
    Linear,
    LogitNormalTimes,
    LogNormalTimes,
    UniformTimes,
)


def test_times_of_a_table_are_all_its_entries_and_of_a_flow_all_of_the_line():
    table = UniformTimes().sample(20_000, torch.Generator().manual_seed(0), Linear(timesteps=10))
    assert table.unique().tolist() == list(range(10))
    counts = torch.bincount(table.long()).double()
    assert (counts - 2000).abs().max() < 5 * (20_000 * 0.1 * 0.9) ** 0.5
    line = UniformTimes().sample(20_000, torch.Generator().manual_seed(0), Flow())
    assert abs(line.mean() - 0.5) < 5 * (1 / 12 / 20_000) ** 0.5
    assert line.min() < 0.001
    assert line.max() > 0.999


def test_logit_normal_times_are_normal_after_the_logit():
    t = LogitNormalTimes(mean=0.5, std=2.0).sample(20_000, torch.Generator().manual_seed(0), Flow())
    logits = torch.logit(t)
    assert abs(logits.mean() - 0.5) < 5 * 2 / 20_000**0.5
    assert abs(logits.std() - 2) < 5 * 2 / 40_000**0.5


def test_log_normal_times_are_normal_in_the_noise_level():
    t = LogNormalTimes().sample(20_000, torch.Generator().manual_seed(0), Flow())
    level = -Flow().log_snr(t) / 2
    assert abs(level.mean() + 0.51) < 5 * 1.2 / 20_000**0.5
    assert abs(level.std() - 1.2) < 5 * 1.2 / 40_000**0.5
    entries = LogNormalTimes().sample(500, torch.Generator().manual_seed(0), Linear())
    assert torch.equal(entries, entries.round())
    assert abs((-Linear().log_snr(entries) / 2).median() + 0.51) < 0.2


@pytest.mark.parametrize("times", [UniformTimes(), LogitNormalTimes(mean=0.3, std=0.8), LogNormalTimes(std=0.7)])
@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Flow(), EDM()])
def test_the_density_of_log_snr_is_that_of_the_draws(times, schedule):
    """Its integral between two levels is the share of draws that fall there."""
    drawn = schedule.log_snr(times.sample(100_000, torch.Generator().manual_seed(0), schedule))
    ends = torch.tensor([-3.0, -1.0, 1.0, 3.0], dtype=torch.float64)
    for low, high in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        levels = torch.linspace(low, high, 2001, dtype=torch.float64)
        density = times.log_snr_density(schedule.time(levels), schedule)
        share = ((drawn > low) & (drawn < high)).double().mean()
        assert torch.trapezoid(density, levels) == pytest.approx(share.item(), abs=0.008)


@pytest.mark.parametrize("schedule", [Linear(), Linear(timesteps=7), Flow(), EDM()])
def test_a_position_gives_back_the_time_it_is_of(schedule):
    u = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = schedule.training_time(u)
    torch.testing.assert_close(schedule.training_time(schedule.training_position(t)), t, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: LogitNormalTimes(std=0.0), "std"),
        (lambda: LogNormalTimes(std=-1.0), "std"),
        (lambda: ImportanceTimes(bins=0), "bins"),
        (lambda: ImportanceTimes(history=0), "history"),
        (lambda: ImportanceTimes(uniform=0.0), "uniform"),
    ],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()
