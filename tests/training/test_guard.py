"""A run that goes wrong is put right, by the same steps wherever and however often it is resumed."""

import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_not_finite import AtBatch, poisoned
from test_resume import Signalled, same

from calotype.artifact import latest_checkpoint
from calotype.training import guard, health
from calotype.training.draws import Draws
from calotype.training.ema import MovingAverage, PowerFunctionEMA
from calotype.training.ema_snapshots import snapshots
from calotype.training.interrupt import Interrupted
from calotype.training.recipe import Recipe
from calotype.training.session import start_session
from calotype.training.state import restore_training_state, training_state
from calotype.training.trainer import Trainer, TrainingError
from calotype.utils.files import read_json
from tiny import BATCH, autoencoder_recipe, metrics, settings

MakeRecipe = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps are a level, every sound look is kept, and ten steps of progress are not asked for."""
    monkeypatch.setattr(health, "LEVEL_STEPS", 2)
    monkeypatch.setattr(health, "LEVEL_SAMPLES", 1)
    monkeypatch.setattr(health, "PATIENCE", 10.0)
    monkeypatch.setattr(guard, "KEEP_EVERY", 1)


def saying(recipe: Recipe, **losses: Callable[[int], float]) -> Recipe:
    """The recipe, whose steps say what they are told to; what they do is real."""
    true = recipe.step

    def step(batch: Any, draws: Draws) -> dict[str, torch.Tensor]:
        said = {name: torch.tensor(loss(draws.seen)) for name, loss in losses.items()}
        return true(batch, draws) | said

    recipe.step = step
    return recipe


def between(first: int, last: int, value: float = 3.0) -> Callable[[int], float]:
    return lambda seen: value if first <= seen < last else 1.0


def rising(seen: int) -> float:
    return {20: 1.6, 24: 2.0}.get(seen, 1.0)


def messages(run: Path) -> list[str]:
    return [line["message"] for line in metrics(run) if line.get("kind") == "health"]


@pytest.mark.parametrize("kind", ["autoencoder", "quantised", "log_variance"])
def test_going_back_is_exact_and_can_be_repeated(kind: str, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(kind)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    recipe.begin(40)
    average = MovingAverage(recipe.averaged, PowerFunctionEMA())
    seen = 0

    def steps(count: int) -> None:
        nonlocal seen
        for _ in range(count):
            recipe.step(recipe.train.batch(seen, BATCH), Draws(0, seen, BATCH, slice(None)))
            seen += BATCH
            average.update(seen // BATCH)

    empty = training_state(recipe, average)
    steps(2)
    before = training_state(recipe, average)
    for _ in range(2):
        steps(3)
        after = training_state(recipe, average)
        assert after.keys() >= before.keys()
        changed = {key.split("/")[0] for key in before if not torch.equal(before[key], after[key])}
        assert changed == {"module", "average", "optimiser"}
        restore_training_state(recipe, before, average)
        again = training_state(recipe, average)
        assert again.keys() == before.keys()
        assert [key for key in before if not torch.equal(before[key], again[key])] == []
    restore_training_state(recipe, empty, average)
    assert training_state(recipe, average).keys() == empty.keys(), "optimisers as empty as they were"


def too_fast(weights: int = 0) -> Recipe:
    """A recipe whose discriminator's weights, 0.02 in size, would be moved by three times as much."""
    recipe = autoencoder_recipe(weights=weights, disc_from=0.0)
    recipe.config = replace(
        recipe.config, discriminator_optimiser=replace(recipe.config.discriminator_optimiser, learning_rate=0.06)
    )
    return recipe


def test_rates_out_of_proportion_to_the_weights_are_lowered_before_the_first_step(tmp_path: Path) -> None:
    recipe = too_fast()
    Trainer(settings(tmp_path, log_every=4)).fit(recipe, recipe.train)
    first = next(line for line in metrics(tmp_path) if line.get("kind") == "health")
    assert (first["samples"], first["rule"]) == (0, "step size")
    assert re.fullmatch(
        r"a step at learning rate 0.06 moves the weights of the discriminator by \d+% of their size: "
        r"learning rates now x0.0625",
        first["message"],
    )
    rates = {line["samples"]: line for line in metrics(tmp_path) if "rate/autoencoder" in line}
    for name, (_, config) in recipe.optimisers.items():
        assert rates[4][f"rate/{name}"] == config.rate(0, 40) / 16


def test_a_discriminator_that_outweighs_the_images_is_lowered_before_the_first_step(tmp_path: Path) -> None:
    for weight, share, said in (
        (0.9, 1, None),
        (1.9, 16, "with disc_weight 1.9 the discriminator outweighs the images"),
    ):
        run, recipe = tmp_path / str(weight), autoencoder_recipe(disc_from=0.0, disc_weight=weight)
        Trainer(settings(run)).fit(recipe, recipe.train)
        assert messages(run) == ([f"{said}: disc_weight now x{1 / share:g}"] if said else [])
        assert recipe.loss.config.disc_weight == weight / share
    without = autoencoder_recipe(disc_from=1.0, disc_weight=2.0)
    Trainer(settings(tmp_path / "without")).fit(without, without.train)
    assert messages(tmp_path / "without") == []


def test_where_nothing_may_be_done_it_is_only_said(tmp_path: Path) -> None:
    recipe = too_fast()
    Trainer(settings(tmp_path, interventions=0)).fit(recipe, recipe.train)
    assert messages(tmp_path)[0].endswith("of their size: lower the learning rate")
    assert next(line["rate/discriminator"] for line in metrics(tmp_path) if "rate/discriminator" in line) == 0.06


def test_a_divergence_goes_back_and_slows_down(tmp_path: Path) -> None:
    recipe = saying(autoencoder_recipe(disc_from=1.0), reconstruction=between(20, 24))
    Trainer(settings(tmp_path, log_every=4)).fit(recipe, recipe.train)
    (said,) = messages(tmp_path)
    assert said == (
        "the loss is at 2, 2.0 times its best at 24 images: went back to what it was at 20 images, "
        "learning rates now x0.5 (intervention 1 of 5)"
    )
    rates = {line["samples"]: line["rate/autoencoder"] for line in metrics(tmp_path) if "rate/autoencoder" in line}
    rate = recipe.config.optimiser.rate
    assert rates[24] == rate(20, 40)
    assert rates[28] == rate(24, 40) / 2


def test_what_it_goes_back_to_is_what_was(tmp_path: Path) -> None:
    """After the return the run is where it was at 20 samples: the next step starts from those weights."""
    recipe, states = saying(autoencoder_recipe(disc_from=1.0), reconstruction=between(20, 24)), {}

    def look(batch: Any) -> Any:
        states[len(states)] = {k: v.clone() for k, v in recipe.model.state_dict().items()}
        return batch

    source = AtBatch(recipe.train, look, starts=range(20, 40, 4))
    Trainer(settings(tmp_path)).fit(recipe, source)
    assert len(states) == 5
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[1][key], states[2][key]) for key in states[1])


def test_snapshots_of_what_was_undone_are_removed(tmp_path: Path) -> None:
    """That at 24 is neither as good as what was kept at 20 nor as bad as what, at 28, made the run go back."""
    recipe, taken = saying(autoencoder_recipe(disc_from=1.0), reconstruction=rising), []

    def look(batch: Any) -> Any:
        taken.append(snapshots(tmp_path))
        return batch

    Trainer(settings(tmp_path, ema_snapshots=10)).fit(recipe, AtBatch(recipe.train, look, starts=[24, 28]))
    assert "at 28 images: went back to what it was at 20 images" in messages(tmp_path)[0]
    assert taken == [[4, 8, 12, 16, 20, 24], [4, 8, 12, 16, 20, 28]]


def test_where_the_discriminator_is_to_blame_its_weight_is_halved(tmp_path: Path) -> None:
    recipe = saying(autoencoder_recipe(disc_from=0.0), reconstruction=between(20, 24))
    Trainer(settings(tmp_path, log_every=4)).fit(recipe, recipe.train)
    (said,) = messages(tmp_path)
    assert "went back to what it was at 20 images, disc_weight now x0.5 (" in said
    assert recipe.loss.config.disc_weight == 0.25
    assert metrics(tmp_path)[-2]["rate/autoencoder"] == recipe.config.optimiser.rate(36, 40)


def test_what_was_in_vain_is_done_again_harder_and_with_the_other(tmp_path: Path) -> None:
    recipe = saying(autoencoder_recipe(disc_from=0.0), reconstruction=lambda seen: 3.0 if seen >= 20 else 1.0)
    Trainer(settings(tmp_path)).fit(recipe, recipe.train)
    first, second, third = messages(tmp_path)[:3]
    assert "disc_weight now x0.5 (intervention 1" in first
    assert "went back to what it was at 20 images, disc_weight now x0.125 (" in second
    assert "learning rates now x0.125 and disc_weight now x0.015625" in third


def test_a_discriminator_that_weighs_too_much_is_eased_beyond_the_limit(tmp_path: Path) -> None:
    recipe = saying(autoencoder_recipe(disc_from=0.0), reconstruction=lambda seen: 1.3 if seen >= 20 else 1.0)
    Trainer(settings(tmp_path, interventions=1)).fit(recipe, recipe.train)
    said = messages(tmp_path)
    back = "times worse than its best at {} images: went back to what it was at 20 images, "
    assert said[0].endswith(back.format(28) + "disc_weight now x0.5")
    assert said[1].endswith(back.format(36) + "disc_weight now x0.125")
    assert recipe.loss.config.disc_weight == 0.5 / 8


def test_a_stall_is_eased_twice_and_then_only_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE", 0.2)
    monkeypatch.setattr(health, "LEVEL_STEPS", 1)
    recipe = saying(autoencoder_recipe(disc_from=1.0), reconstruction=lambda seen: 1.0)
    Trainer(settings(tmp_path)).fit(recipe, recipe.train)
    said = messages(tmp_path)
    assert [each.split(": ")[1] for each in said[:3]] == [
        "learning rates now x0.25",
        "learning rates now x0.0625",
        "lower the learning rate",
    ]


def test_without_interventions_it_is_only_said(tmp_path: Path) -> None:
    recipe = saying(autoencoder_recipe(disc_from=0.0), reconstruction=lambda seen: 3.0 if seen >= 20 else 1.0)
    Trainer(settings(tmp_path, interventions=0)).fit(recipe, recipe.train)
    assert messages(tmp_path)[-1] == "the loss is at 2, 2.0 times its best at 24 images: lower disc_weight"
    assert recipe.loss.config.disc_weight == 0.5


def test_the_limit_ends_the_run_in_its_last_good_state(tmp_path: Path) -> None:
    recipe = saying(autoencoder_recipe(disc_from=1.0), reconstruction=lambda seen: 3.0 if seen >= 20 else 1.0)
    with pytest.raises(
        TrainingError, match=r"after 1 interventions: stopped, back at 20 images; .*; saved in"
    ) as error:
        Trainer(settings(tmp_path, interventions=1, checkpoint_every=20)).fit(recipe, recipe.train)
    assert "\n" not in str(error.value)
    good, last = (sorted((tmp_path / "checkpoints").iterdir())[index] for index in (0, 1))
    assert (good.name, last) == (f"{20:010d}", latest_checkpoint(tmp_path))
    for name in ("autoencoder.safetensors", "autoencoder_ema.safetensors"):
        assert (good / name).read_bytes() == (last / name).read_bytes()


def faulty(weights: int) -> Recipe:
    """A run with a divergence at 16 and a takeover at 36 images; its source adds a NaN at 24."""
    bad = {12: 3.0, 28: 1.3, 32: 1.3}
    return saying(autoencoder_recipe(weights=weights, disc_from=0.3), reconstruction=lambda seen: bad.get(seen, 1.0))


def test_interventions_survive_being_stopped(tmp_path: Path) -> None:
    """Stopped before, between and after the interventions, the run ends as the one that was never stopped."""
    recipe = faulty(0)
    Trainer(settings(tmp_path / "whole")).fit(recipe, AtBatch(recipe.train, poisoned))
    said = messages(tmp_path / "whole")
    assert len(said) == 3
    trainer = Trainer(settings(tmp_path / "run"))
    for weights, start in enumerate((8, 16, 20, 28, 32)):
        recipe = faulty(weights)
        source = Signalled(AtBatch(recipe.train, poisoned), start, signal.SIGTERM)
        with pytest.raises(Interrupted):
            trainer.fit(recipe, source)
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert (checkpoint / "kept.safetensors").exists()
    assert read_json(checkpoint / "training.json")["health"]["interventions"] == 2
    recipe = faulty(9)
    trainer.fit(recipe, AtBatch(recipe.train, poisoned))
    same(tmp_path / "run", tmp_path / "whole")
    assert not (latest_checkpoint(tmp_path / "run") / "kept.safetensors").exists(), "a finished run never goes back"
