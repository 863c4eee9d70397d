"""What is found in traces that were made up, and what is not."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from calotype.training.health import HISTORY, LASTING_STEPS, Finding, HealthMonitor

Trace = Callable[[int], dict[str, float]]
STEPS = 600
GAN = {"disc_loss": 0.8, "logits_real": 0.3, "logits_fake": -0.4, "d_weight": 0.01}
FINE = {"gradient_norm": 0.4, "nats_per_latent": 1.0, "code_use": 0.7}


def monitor(batch_size: int = 16, watched: str = "reconstruction") -> HealthMonitor:
    return HealthMonitor(watched, batch_size=batch_size, total=STEPS * batch_size)


def watch(monitor: HealthMonitor, trace: Trace, steps: range = range(STEPS)) -> Iterator[tuple[int, Finding]]:
    """The step and the finding, for all that is found in a trace of the given steps."""
    for step in steps:
        monitor.add({name: torch.tensor(value) for name, value in trace(step).items()})
        if (step + 1) % monitor.interval == 0:
            yield from ((step, finding) for finding in monitor.look())


def rules(trace: Trace, **options: Any) -> list[str]:
    return [finding.rule for _, finding in watch(monitor(**options), trace)]


def learning(step: int) -> float:
    return 0.1 + 0.6 * 0.993**step


def noisy(batch_size: int, late: dict[str, float]) -> Trace:
    """A loss that falls, with the noise of batches: images differ by a factor of 1.6; a discriminator from 300 on."""
    factors = torch.empty(STEPS, batch_size).log_normal_(0, 0.5, generator=torch.Generator().manual_seed(1)).mean(1)
    noise = (factors / factors.mean()).tolist()
    return lambda step: {"reconstruction": learning(step) * noise[step]} | FINE | (late if step >= 300 else {})


@pytest.mark.parametrize("batch_size", [4, 64])
def test_nothing_is_found_in_a_healthy_run(batch_size: int) -> None:
    assert rules(noisy(batch_size, GAN), batch_size=batch_size) == []


@pytest.mark.parametrize("batch_size", [4, 64])
def test_a_loss_that_comes_apart(batch_size: int) -> None:
    calm = noisy(batch_size, {})
    found = list(
        watch(
            monitor(batch_size),
            lambda step: {**calm(step), "reconstruction": calm(step)["reconstruction"] * (1 + 2 * (step > 270))},
        )
    )
    step, first = found[0]
    assert (first.rule, first.remedy) == ("divergence", "roll_back")
    assert first.advice == "lower the learning rate"
    assert 270 < step < 270 + max(32, 512 // batch_size), "little more than half a level of bad steps is enough"


def test_single_bad_batches_do_not_matter() -> None:
    assert rules(lambda step: {"reconstruction": 50.0 if step % 9 == 0 else learning(step)}) == []


def test_a_discriminator_that_weighs_too_much() -> None:
    def trace(step: int) -> dict[str, float]:
        worse = 1 + 0.3 * min(1, max(0, step - 300) / 30)
        return {"reconstruction": learning(min(step, 300)) * worse} | (GAN if step >= 300 else {})

    found = [finding for _, finding in watch(monitor(), trace)]
    assert {(finding.rule, finding.remedy) for finding in found} == {("takeover", "ease_discriminator")}
    without = [
        finding for _, finding in watch(monitor(), lambda step: {"reconstruction": trace(step)["reconstruction"]})
    ]
    assert "takeover" not in [finding.rule for finding in without]


def test_with_a_discriminator_its_weight_is_to_blame() -> None:
    ((_, found),) = watch(monitor(), lambda step: {"reconstruction": 1.0 + (step > 270)} | GAN)
    assert (found.rule, found.advice) == ("divergence", "lower disc_weight"), "found once, as long as it lasts"


def test_a_reconstruction_that_stalls() -> None:
    found = list(watch(monitor(), lambda step: {"reconstruction": learning(min(step, 120))}))
    step, first = found[0]
    assert (first.rule, first.remedy) == ("stall", "ease_learning_rates")
    assert 120 + 0.07 * STEPS < step < 120 + 0.16 * STEPS
    assert rules(lambda step: {"reconstruction": learning(min(step, 120))} | GAN) == [], "then it is no wonder"
    assert rules(lambda step: {"loss_simple": learning(min(step, 120))}, watched="loss_simple") == []


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        ("discriminator collapse", {"logits_real": 0.01, "logits_fake": -0.02, "disc_loss": 0.99}),
        ("discriminator dominance", {"logits_real": 3.0, "logits_fake": -3.0, "disc_loss": 0.01}),
        ("dead codes", {"code_use": 0.03}),
        ("posterior collapse", {"nats_per_latent": 1e-3}),
    ],
)
def test_what_must_last(rule: str, bad: dict[str, float]) -> None:
    """Said once when it has lasted, once more when it comes back; not where it passes by itself."""
    well = FINE | GAN

    def trace(step: int) -> dict[str, float]:
        return {"reconstruction": learning(step)} | well | (bad if 180 <= step < 300 or step >= 420 else {})

    found = list(watch(monitor(), trace))
    assert [finding.rule for _, finding in found] == [rule, rule]
    assert {finding.remedy for _, finding in found} == {"say"}
    assert 180 + LASTING_STEPS - 3 <= found[0][0] < 180 + LASTING_STEPS + 3
    assert all("\n" not in finding.sees + finding.advice for _, finding in found)
    assert rules(lambda step: trace(0) | (bad if step % 30 < 24 else {})) == []


@pytest.mark.parametrize(("steps", "lasting"), [(150, LASTING_STEPS), (2000, LASTING_STEPS), (6000, 300)])
def test_what_lasts_lasts_a_twentieth_of_a_run_and_never_few_steps(steps: int, lasting: int) -> None:
    """A discriminator that has just begun cannot tell anything yet."""
    ((step, found),) = watch(
        HealthMonitor("reconstruction", batch_size=1, total=steps),
        lambda _: {"reconstruction": 1.0} | GAN | {"logits_real": 0.01, "logits_fake": 0.0},
        range(steps),
    )
    assert found.rule == "discriminator collapse"
    assert step + 1 == lasting


@pytest.mark.parametrize("name", ["gradient_norm", "d_weight"])
def test_a_hundred_times_the_usual(name: str) -> None:
    def trace(step: int, factor: float) -> dict[str, float]:
        late = {name: factor * {**FINE, **GAN}[name]} if step >= 450 else {}
        return {"reconstruction": learning(step)} | FINE | GAN | late

    assert rules(lambda step: trace(step, 200.0)) == ["runaway"]
    assert rules(lambda step: trace(step, 50.0)) == []


def test_it_is_looked_at_two_hundred_times() -> None:
    assert monitor().interval == 3
    assert HealthMonitor("loss", batch_size=4, total=40).interval == 1
    assert HealthMonitor("loss", batch_size=1, total=10**6).interval == 100


def test_sound_is_close_to_its_best() -> None:
    watched = monitor()
    for level, sound in ((1.0, True), (1.15, True), (1.3, False), (1.0, True)):
        list(watch(watched, lambda _, level=level: {"reconstruction": level}, range(40)))
        assert watched.sound == sound
    list(watch(watched, lambda _: {"reconstruction": 1.4}, range(10)))
    assert not watched.sound, "the last quarter of a level is enough"
    watched.forget()
    assert not watched.sound


def test_what_it_knows_can_be_stored() -> None:
    """A monitor that is stored and read at any step finds what the other finds."""

    def trace(step: int) -> dict[str, float]:
        return noise(step) | (GAN | {"logits_fake": 0.3} if step > 210 else {}) | {"gradient_norm": float("inf")}

    noise = noisy(4, {})
    whole, found = monitor(4), []
    expected = list(watch(whole, trace))
    current = monitor(4)
    for start in range(0, STEPS, 37):
        found += watch(current, trace, range(start, min(start + 37, STEPS)))
        state, pending = current.state()
        current = monitor(4)
        current.load(json.loads(json.dumps(state, allow_nan=False)), pending)
    assert found == expected != []
    assert current.state()[0] == whole.state()[0]
    assert len(current.series["gradient_norm"]) <= max(HISTORY, current.per_level)
