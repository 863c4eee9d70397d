from dataclasses import replace
from pathlib import Path

import pytest
import torch

from calotype.artifact import read_artifact
from calotype.training.autoencoder_recipe import AutoencoderRecipe
from calotype.training.initial_weights import InitialWeights
from calotype.training.optimiser import OptimiserConfig
from calotype.training.trainer import Trainer
from calotype.utils.errors import UserError
from calotype.utils.files import read_json
from tiny import autoencoder_recipe, settings


def recipe_from(initial: InitialWeights | None) -> AutoencoderRecipe:
    recipe = autoencoder_recipe(weights=1)
    still = OptimiserConfig(learning_rate=1e-12)
    return AutoencoderRecipe(replace(recipe.config, optimiser=still), recipe.train, recipe.held_out, initial)


def fit(out: Path, initial: InitialWeights | None, **changes: int) -> Path:
    recipe = recipe_from(initial)
    return Trainer(settings(out, **changes)).fit(recipe, recipe.train)


@pytest.fixture
def initial() -> InitialWeights:
    weights = autoencoder_recipe(weights=2).model.state_dict()
    return InitialWeights("general", {key: value.half() for key, value in weights.items()})


def test_training_and_its_average_begin_with_them(initial: InitialWeights, tmp_path: Path) -> None:
    run = fit(tmp_path, initial)
    for weights in ("raw", "ema"):
        found = read_artifact(run).weights("autoencoder", weights)
        assert all(value.dtype == torch.float32 for value in found.values())
        assert all(torch.allclose(found[key], value.float(), atol=1e-8) for key, value in initial.state.items())


def test_a_run_remembers_what_it_began_with(initial: InitialWeights, tmp_path: Path) -> None:
    fit(tmp_path / "warm", initial)
    assert read_json(tmp_path / "warm" / "config.json")["config"]["recipe"]["initial"] == "general"
    fit(tmp_path / "warm", initial)
    with pytest.raises(UserError, match="initial: 'general' then, None now"):
        fit(tmp_path / "warm", None)
    fit(tmp_path / "cold", None)
    with pytest.raises(UserError, match="initial: None then, 'general' now"):
        fit(tmp_path / "cold", initial)
