"""The log-variance of the reconstruction, learned or left alone."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from calotype.artifact import latest_checkpoint
from calotype.training.autoencoder_recipe import AutoencoderRecipe, AutoencoderRecipeConfig
from calotype.training.draws import Draws
from calotype.training.optimiser import OptimiserConfig
from calotype.training.session import start_session
from calotype.training.trainer import Trainer
from calotype.utils.tensors import load_tensors
from tiny import BATCH, autoencoder_recipe, loader, metrics, quantised_recipe, regularised_recipe, settings

PLAIN = autoencoder_recipe().config
FAST = OptimiserConfig(learning_rate=0.1, warmup_samples=0, decay_from=1.0, clip=0.0)


def started(config: AutoencoderRecipeConfig) -> AutoencoderRecipe:
    recipe = AutoencoderRecipe(config, loader())
    recipe.start(start_session("cpu", "fp32"), BATCH)
    recipe.begin(10**6)
    return recipe


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_becomes_the_logarithm_of_the_mean_error(reduction: str) -> None:
    """With an autoencoder that is put back after every step, so that its error stays what it is."""
    config = replace(PLAIN, loss=replace(PLAIN.loss, reduction=reduction), optimiser=FAST, learn_logvar=True)
    recipe = started(config)
    weights = copy.deepcopy(recipe.model.state_dict())
    for _ in range(120):
        logs = recipe.step(recipe.train.batch(0, BATCH), Draws(0, 0, BATCH, slice(None)))
        recipe.model.load_state_dict(weights)
    assert recipe.loss.logvar.item() == pytest.approx(math.log(logs["reconstruction"].item()), abs=0.02)
    assert abs(recipe.loss.logvar.item()) > 0.2, "it was somewhere else"


def test_it_is_left_alone_unless_asked_for() -> None:
    recipe = started(replace(PLAIN, optimiser=FAST))
    logs = recipe.step(recipe.train.batch(0, BATCH), Draws(0, 0, BATCH, slice(None)))
    assert recipe.loss.logvar.item() == 0
    assert "logvar" not in logs
    assert "learned" not in recipe.auxiliary


def test_it_is_logged_and_belongs_to_the_training_state(tmp_path: Path) -> None:
    recipe = regularised_recipe()
    Trainer(settings(tmp_path)).fit(recipe, recipe.train)
    logged = [line["train/logvar"] for line in metrics(tmp_path) if "train/logvar" in line]
    assert len(set(logged)) == len(logged) > 2
    stored = load_tensors(latest_checkpoint(tmp_path) / "training.safetensors")
    assert torch.equal(stored["module/learned/logvar"], recipe.loss.logvar)
    weights = load_tensors(latest_checkpoint(tmp_path) / "autoencoder.safetensors")
    assert not [name for name in weights if "logvar" in name]


def test_a_codebook_has_none() -> None:
    with pytest.raises(ValueError, match="learn_logvar: the loss vq_lpips_with_discriminator has no log-variance"):
        replace(quantised_recipe().config, learn_logvar=True)
