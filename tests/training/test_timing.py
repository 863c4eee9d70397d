import pytest
import torch
from torch import Tensor

from calotype.training import timing
from calotype.training.draws import Draws
from calotype.training.session import start_session
from calotype.training.timing import LATE, seconds_per_step
from tiny import BATCH, autoencoder_recipe


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    return clock


def test_phases_count_by_their_shares(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm-up steps take 100 s and do not count; a late step takes 3 s, an early one 1 s or, once, 50 s."""
    recipe = autoencoder_recipe(disc_from=0.25)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    positions: list[int] = []

    def step(batch: object, draws: Draws) -> dict[str, Tensor]:
        number = positions.count(draws.seen)
        positions.append(draws.seen)
        clock.now += 100 if number < 2 else 3 if draws.seen == LATE else 50 if number == 3 else 1
        return {}

    monkeypatch.setattr(recipe, "step", step)
    monkeypatch.setattr(timing, "SECONDS", 1000.0)
    seconds, _ = seconds_per_step(recipe, recipe.train, seed=0, batch_size=BATCH, rows=slice(None), threads=[1])
    assert seconds == pytest.approx(0.25 * 1 + 0.75 * 3)
    assert positions == [0] * timing.STEPS + [LATE] * timing.STEPS


def test_slow_steps_are_few(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = autoencoder_recipe(disc_from=1.0)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    taken = []

    def step(batch: object, draws: Draws) -> dict[str, Tensor]:
        clock.now += 60 if len(taken) >= 2 else 100
        taken.append(draws.seen)
        return {}

    monkeypatch.setattr(recipe, "step", step)
    timed = seconds_per_step(recipe, recipe.train, seed=0, batch_size=BATCH, rows=slice(None), threads=[1])
    assert timed == (60, 1)
    assert taken == [0, 0, 0]


def test_the_fastest_number_of_threads_is_chosen(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = autoencoder_recipe(disc_from=1.0)
    recipe.start(start_session("cpu", "fp32"), BATCH)

    def step(*_: object) -> dict[str, torch.Tensor]:
        clock.now += {1: 2.0, 2: 5.0}[torch.get_num_threads()]
        return {}

    monkeypatch.setattr(recipe, "step", step)
    timed = seconds_per_step(recipe, recipe.train, seed=0, batch_size=BATCH, rows=slice(None), threads=[2, 1])
    torch.set_num_threads(1)
    assert timed == (2.0, 1)


def test_everything_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "STEPS", 3)
    recipe = autoencoder_recipe(disc_from=0.5)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    modules = {**recipe.averaged, **recipe.auxiliary}
    before = {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in modules.items()}
    assert seconds_per_step(recipe, recipe.train, seed=0, batch_size=BATCH, rows=slice(None), threads=[1])[0] > 0
    for name, module in modules.items():
        assert all(torch.equal(before[name][key], value) for key, value in module.state_dict().items())
        assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(optimiser.state for optimiser, _ in recipe.optimisers.values())
