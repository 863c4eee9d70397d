import math

import pytest

from calotype.training.learning_rate import CosineCycles, Cycle, LinearCycles
from calotype.training.optimiser import OptimiserConfig
from calotype.utils.config import from_dict, to_dict

FIRST = Cycle(length=100, warm_up=20, start=0.1, peak=1.0, end=0.2)
SECOND = Cycle(length=50, warm_up=10, start=0.3, peak=0.8, end=0.4)


@pytest.mark.parametrize("kind", [CosineCycles, LinearCycles])
def test_each_cycle_rises_to_its_peak_and_falls_to_its_end(kind: type) -> None:
    schedule = kind(cycles=(FIRST, SECOND))
    rise = [0.1 + 0.9 * seen / 20 for seen in range(21)]
    assert [schedule.multiplier(seen) for seen in range(21)] == pytest.approx(rise)
    fall = [schedule.multiplier(seen) for seen in range(20, 101)]
    assert fall == sorted(fall, reverse=True)
    assert fall[-1] == pytest.approx(0.2)
    assert [schedule.multiplier(seen) for seen in (101, 110, 150)] == pytest.approx([0.35, 0.8, 0.4])


def test_half_way_down() -> None:
    middle = 20 + 80 // 4
    assert LinearCycles(cycles=(FIRST,)).multiplier(middle) == pytest.approx(1.0 - 0.8 / 4)
    assert CosineCycles(cycles=(FIRST,)).multiplier(middle) == pytest.approx(0.2 + 0.4 * (1 + math.sqrt(0.5)))


@pytest.mark.parametrize("fall_from", ["warm_up", "cycle_start"])
def test_where_a_line_has_its_peak(fall_from: str) -> None:
    """A line from the beginning of the cycle is 20 % down when the warm-up ends."""
    schedule = LinearCycles(cycles=(FIRST,), fall_from=fall_from)
    assert schedule.multiplier(19) == pytest.approx(0.955)
    assert schedule.multiplier(20) == pytest.approx({"warm_up": 1.0, "cycle_start": 0.84}[fall_from])
    assert schedule.multiplier(100) == pytest.approx(0.2)


@pytest.mark.parametrize("kind", [CosineCycles, LinearCycles])
def test_beyond_the_last_cycle_the_rate_stays(kind: type) -> None:
    assert {kind(cycles=(FIRST, SECOND)).multiplier(seen) for seen in (150, 151, 10**9)} == {0.4}


def test_no_warm_up_and_nothing_but_warm_up() -> None:
    assert LinearCycles(cycles=(Cycle(length=10),)).multiplier(0) == 1.0
    for kind in (CosineCycles, LinearCycles):
        schedule = kind(cycles=(Cycle(length=10, warm_up=10),))
        assert [schedule.multiplier(seen) for seen in (0, 5)] == [0.0, 0.5]
        assert math.isfinite(schedule.multiplier(10))


def test_an_optimiser_follows_its_schedule_instead_of_warm_up_and_decay() -> None:
    schedule = LinearCycles(cycles=(FIRST,))
    config = OptimiserConfig(learning_rate=0.5, warmup_samples=1000, decay_from=0.0, schedule=schedule)
    assert [config.rate(seen, 200) for seen in (0, 20, 60)] == [0.5 * schedule.multiplier(seen) for seen in (0, 20, 60)]
    assert from_dict(OptimiserConfig, to_dict(config)) == config
    assert from_dict(OptimiserConfig, {"learning_rate": 0.1}) == OptimiserConfig(learning_rate=0.1)


@pytest.mark.parametrize(
    ("settings", "field"), [({"length": 0}, "length"), ({"length": 5, "warm_up": 6}, "warm_up"), ({}, "cycles")]
)
def test_bad_settings_are_named(settings: dict[str, int], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must"):
        LinearCycles(cycles=(Cycle(**settings),) if settings else ())
