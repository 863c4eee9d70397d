import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calotype.diffusion.objectives import Objective
from calotype.training import timing, trainer
from calotype.training.ema import ConstantEMA
from calotype.training.optimiser import NonFiniteError, OptimiserConfig
from calotype.training.recipe import Recipe
from calotype.training.trainer import Trainer, TrainerConfig, TrainingError
from calotype.utils import distributed
from calotype.utils.errors import UserError
from calotype.utils.files import read_json, write_json
from tiny import autoencoder_recipe, diffusion_recipe, metrics, settings, tensor_files

MakeRecipe = Callable[..., Recipe]


def fit(recipe: Recipe, out: Path, **changes: Any) -> Path:
    return Trainer(settings(out, **changes)).fit(recipe, recipe.train)


def timed(recipe: Recipe, *args: Any, **options: Any) -> tuple[float, int]:
    """A timing that takes its steps and then says 6000 s: 10 steps in 1000 minutes."""
    seconds_per_step(recipe, *args, **options)
    return 6000.0, 1


seconds_per_step = trainer.seconds_per_step


@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_timing_a_run_changes_nothing(
    kind: str, make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "STEPS", 3)
    monkeypatch.setattr(trainer, "seconds_per_step", timed)
    by_minutes = fit(make_recipe(kind), tmp_path / "a", minutes=1000.0)
    by_samples = fit(make_recipe(kind), tmp_path / "b")
    assert dict(tensor_files(by_minutes)) == dict(tensor_files(by_samples))


def test_minutes_become_samples_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "seconds_per_step", lambda *_, **__: (6000.0, 1))
    assert fit(autoencoder_recipe(), tmp_path, minutes=1000.0).name == f"{40:010d}"
    stored = read_json(tmp_path / "config.json")["config"]
    assert (stored["samples"], stored["minutes"]) == (40, 1000.0)
    monkeypatch.setattr(trainer, "seconds_per_step", None)
    assert fit(autoencoder_recipe(), tmp_path, minutes=5.0).name == f"{40:010d}"


def test_lines_and_checkpoints_at_their_intervals(tmp_path: Path) -> None:
    fit(autoencoder_recipe(), tmp_path, keep_checkpoints=10, preview_every=30)
    lines = metrics(tmp_path)
    assert [line["samples"] for line in lines if "train/loss" in line] == [12, 24, 36, 40]
    assert [line["samples"] for line in lines if "validation/psnr" in line] == [16, 32, 40]
    assert [int(path.name) for path in sorted((tmp_path / "checkpoints").iterdir())] == [12, 24, 36, 40]
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())] == ["0000000032.png", "0000000040.png"]


def test_after_one_step_the_average_is_the_weights(tmp_path: Path) -> None:
    files = dict(tensor_files(fit(autoencoder_recipe(), tmp_path, samples=4)))
    assert files["autoencoder_ema.safetensors"] == files["autoencoder.safetensors"]


def test_samples_are_rounded_to_whole_batches(tmp_path: Path) -> None:
    assert fit(autoencoder_recipe(), tmp_path / "a", samples=9).name == f"{8:010d}"
    assert fit(autoencoder_recipe(), tmp_path / "b", samples=1).name == f"{4:010d}"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("begun")
    fit(autoencoder_recipe(), out, samples=4)
    return out


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 1}, r"\(trainer.seed: 0 then, 1 now\)"),
        ({"batch_size": 2}, r"trainer.batch_size: 4 then, 2 now"),
        ({"samples": 8}, r"\(samples: 4 then, 8 now\)"),
    ],
)
def test_other_settings_are_refused(changes: dict[str, Any], difference: str, begun: Path) -> None:
    with pytest.raises(UserError, match=f"was begun with other settings .*{difference}.*choose another --out"):
        fit(autoencoder_recipe(), begun, **{"samples": 4, **changes})


def test_another_recipe_is_refused(begun: Path, encoded: Path) -> None:
    with pytest.raises(UserError, match=r"recipe.loss.kl_weight: 1e-06 then, 0.5 now\)"):
        fit(autoencoder_recipe(kl_weight=0.5), begun, samples=4)
    with pytest.raises(UserError, match=r"recipe.data.fingerprint: '\w+' then, '\w+' now"):
        fit(autoencoder_recipe(count=13), begun, samples=4)
    with pytest.raises(UserError, match=r"recipe.kind: 'autoencoder' then, 'latent_diffusion' now"):
        fit(diffusion_recipe(encoded), begun, samples=4)


def test_a_run_from_before_a_setting_existed_goes_on(encoded: Path, tmp_path: Path) -> None:
    fit(diffusion_recipe(encoded), tmp_path, samples=4)
    written = read_json(tmp_path / "config.json")
    del written["config"]["trainer"]["ema"]["kind"]
    for section, name in (("objective", "simple_weight"), ("optimiser", "schedule")):
        del written["config"]["recipe"][section][name]
    write_json(tmp_path / "config.json", written)
    assert fit(diffusion_recipe(encoded), tmp_path, samples=4).name == f"{4:010d}"
    new = diffusion_recipe(encoded, objective=Objective(prediction="flow", simple_weight=2.0))
    with pytest.raises(UserError, match=r"\(recipe.objective.simple_weight: 1.0 then, 2.0 now\)"):
        fit(new, tmp_path, samples=4)
    with pytest.raises(UserError, match=r"trainer.ema.kind: 'power_function' then, 'constant' now"):
        fit(diffusion_recipe(encoded), tmp_path, samples=4, ema=ConstantEMA())


def test_changed_captions_are_refused(encoded: Path, tmp_path: Path) -> None:
    fit(diffusion_recipe(encoded), tmp_path, samples=4)
    recipe = diffusion_recipe(encoded)
    recipe.train.records[3].fields["caption"] = "a round wave"
    with pytest.raises(UserError, match=r"recipe.data.records"):
        fit(recipe, tmp_path, samples=4)


def test_litter_goes_at_the_start(begun: Path) -> None:
    litter = [begun / ".config.json.x.tmp", begun / "checkpoints" / ".0000000008.tmp"]
    litter[0].touch()
    litter[1].mkdir()
    fit(autoencoder_recipe(), begun, samples=4)
    assert not any(path.exists() for path in litter)


def test_a_batch_must_divide_over_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(UserError, match="batch_size 4 must be a multiple of 3 processes"):
        fit(autoencoder_recipe(), tmp_path)


def test_data_that_is_not_finite_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> float:
        raise NonFiniteError("the loss is not finite")

    monkeypatch.setattr(trainer, "seconds_per_step", fail)
    with pytest.raises(TrainingError, match="the loss is not finite at the first steps"):
        fit(autoencoder_recipe(), tmp_path, minutes=1.0)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give either samples or minutes"),
        ({"samples": 4, "minutes": 1.0}, "give either samples or minutes"),
        ({"samples": -4}, "samples or minutes must be positive"),
        ({"minutes": -1.0}, "samples or minutes must be positive"),
        ({"samples": 4, "batch_size": 0}, "batch_size must be at least 1"),
        ({"samples": 4, "keep_checkpoints": 0}, "keep_checkpoints must be at least 1"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainerConfig(out="run", **changes)


def test_learning_rate_follows_the_samples(tmp_path: Path) -> None:
    make = functools.partial(OptimiserConfig, learning_rate=2e-3, warmup_samples=8)
    fit(autoencoder_recipe(), tmp_path)
    rates = {line["samples"]: line["rate/autoencoder"] for line in metrics(tmp_path) if "rate/autoencoder" in line}
    assert rates == {seen: make().rate(seen - 4, 40) for seen in (12, 24, 36, 40)}
