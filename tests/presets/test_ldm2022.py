"""The paper's recipe, as far as a preset says it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from calotype.chain import stages
from calotype.chain.source import open_source
from calotype.diffusion import L2Loss, Objective, ScaledLinear, UniformTimes
from calotype.presets import find_preset
from calotype.training.ema import WarmUpEMA
from calotype.training.session import start_session
from tiny import Pictures, autoencoder_artifact, settings

PRESET = find_preset("ldm2022-base")


def test_its_optimiser_is_adamw_as_torch_has_it_at_a_constant_rate() -> None:
    layer, config = nn.Linear(2, 2), PRESET.recipe(3, Pictures(1)).optimiser
    ours, theirs = config.build(layer.parameters()), torch.optim.AdamW(layer.parameters(), lr=9.6e-5, fused=True)
    assert ours.defaults == theirs.defaults
    assert {config.rate(seen, 10**6) for seen in range(0, 10**6, 4801)} == {48 * 2e-6}
    assert config.clip == 0


def test_its_objective_is_the_plain_error_of_the_noise() -> None:
    recipe = PRESET.recipe(3, Pictures(1))
    assert recipe.objective == Objective(prediction="eps", loss=L2Loss(), times=UniformTimes())
    assert recipe.schedule == ScaledLinear(timesteps=1000, beta_start=0.0015, beta_end=0.0195)


def test_the_two_small_presets_differ_in_the_method_alone() -> None:
    ours, paper = find_preset("modern"), find_preset("ldm2022")
    assert ours.shape == paper.shape
    assert paper.method == PRESET.method != ours.method


def test_training_by_a_preset_takes_its_average(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []

    class Trainer:
        def __init__(self, config: Any) -> None:
            taken.append(config)

        def fit(self, recipe: Any, source: Any) -> Path:
            taken.append(recipe)
            return tmp_path

    monkeypatch.setattr(stages, "Trainer", Trainer)
    small = replace(PRESET, shape=find_preset("ldm-debug").shape)
    artifact, source = autoencoder_artifact(tmp_path / "autoencoder"), open_source(str(picture_folder))
    session = start_session("cpu", "fp32")
    stages.train_diffusion(small, source, artifact, tmp_path / "latents", settings(tmp_path), session)
    config, recipe = taken
    assert config == replace(settings(tmp_path), ema=WarmUpEMA(decay=0.9999))
    assert recipe.config.optimiser == PRESET.method.optimiser
