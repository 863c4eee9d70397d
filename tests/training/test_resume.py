"""A run that was stopped and went on equals one that was never stopped, bit for bit."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calotype.artifact import latest_checkpoint
from calotype.training.interrupt import Interrupted
from calotype.training.recipe import Recipe
from calotype.training.trainer import Trainer
from calotype.utils.files import read_json
from tiny import Wrapped, metrics, settings, tensor_files

MakeRecipe = Callable[..., Recipe]


class Signalled(Wrapped):
    """Sends this process a signal while the batch at ``start`` is loaded."""

    def __init__(self, source: Any, start: int, number: int) -> None:
        super().__init__(source)
        self.start, self.number = start, number

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> Any:
        if start == self.start:
            signal.raise_signal(self.number)
        return super().batch(start, count, rows)


class Crashing(Wrapped):
    """Fails, as if the machine did, when the batch at ``start`` is loaded."""

    def __init__(self, source: Any, start: int) -> None:
        super().__init__(source)
        self.start = start

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> Any:
        if start == self.start:
            raise ConnectionResetError("the machine is gone")
        return super().batch(start, count, rows)


@pytest.fixture(
    scope="module", params=["autoencoder", "quantised", "regularised", "diffusion", "log_variance", "tiny_decoder"]
)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def whole(kind: str, make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    run = tmp_path_factory.mktemp(kind) / "whole"
    recipe = make_recipe(kind)
    Trainer(settings(run)).fit(recipe, recipe.train)
    return run


def same(run: Path, whole: Path) -> None:
    ours, theirs = latest_checkpoint(run), latest_checkpoint(whole)
    assert dict(tensor_files(ours)) == dict(tensor_files(theirs))
    for name in ("config.json", "training.json"):
        assert read_json(ours / name) == read_json(theirs / name)
    assert metrics(run) == metrics(whole)


def test_stopped_four_times(kind: str, whole: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    trainer = Trainer(settings(tmp_path / "run"))
    for weights, (start, number) in enumerate(
        [(0, signal.SIGINT), (12, signal.SIGTERM), (16, signal.SIGINT), (28, 15)]
    ):
        recipe = make_recipe(kind, weights=weights)
        with pytest.raises(Interrupted, match=f"stopped at {start + 4} of 40 images, all saved") as stop:
            trainer.fit(recipe, Signalled(recipe.train, start, number))
        assert stop.value.exit_code == 128 + number
        assert latest_checkpoint(tmp_path / "run").name == f"{start + 4:010d}"
    recipe = make_recipe(kind, weights=9)
    trainer.fit(recipe, recipe.train)
    same(tmp_path / "run", whole)


def test_killed_between_checkpoints(kind: str, whole: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    trainer = Trainer(settings(tmp_path / "run"))
    recipe = make_recipe(kind)
    with pytest.raises(ConnectionResetError):
        trainer.fit(recipe, Crashing(recipe.train, 32))
    assert latest_checkpoint(tmp_path / "run").name == f"{24:010d}"
    assert metrics(tmp_path / "run")[-1]["samples"] == 32, "lines beyond the checkpoint are there, to be dropped"
    recipe = make_recipe(kind, weights=1)
    trainer.fit(recipe, recipe.train)
    same(tmp_path / "run", whole)


def test_finished_run_is_left_alone(kind: str, whole: Path, make_recipe: MakeRecipe) -> None:
    before, recipe = metrics(whole), make_recipe(kind, weights=1)
    checkpoint = Trainer(settings(whole)).fit(recipe, Crashing(recipe.train, 0))
    assert checkpoint == latest_checkpoint(whole)
    assert metrics(whole) == before


def test_another_seed_is_another_run(kind: str, whole: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(kind)
    Trainer(settings(tmp_path / "run", seed=1)).fit(recipe, recipe.train)
    ours, theirs = (dict(tensor_files(latest_checkpoint(run))) for run in (tmp_path / "run", whole))
    first = next(iter(recipe.averaged))
    trained = {"training.safetensors", f"{first}.safetensors", f"{first}_ema.safetensors"}
    assert {name for name in theirs if ours[name] != theirs[name]} >= trained
