"""Checkpoints: an artifact with the training state beside it, complete or absent, without pickles."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calotype.artifact import latest_checkpoint, write_artifact
from calotype.training.ema import MovingAverage
from calotype.training.recipe import Recipe
from calotype.utils.files import atomic_folder, read_json, remove_litter, write_json
from calotype.utils.tensors import load_tensors, save_tensors


def checkpoint_folder(run: Path, seen: int) -> Path:
    """Return where the checkpoint after ``seen`` samples is, or will be."""
    return run / "checkpoints" / f"{seen:010d}"


def save_checkpoint(
    run: Path,
    recipe: Recipe,
    average: MovingAverage,
    logs: Mapping[str, Tensor],
    *,
    seen: int,
    total: int,
    keep: int,
) -> Path:
    """Write the checkpoint so that it appears at once, then remove all but the newest ``keep``.

    ``logs`` is ``StepLogs.state()``: the steps that no line of metrics tells of yet.
    """
    target = checkpoint_folder(run, seen)
    if target.exists():
        return target
    remove_litter(target.parent)
    components: dict[str, Any] = dict(recipe.artifact_components())
    for name, module in recipe.averaged.items():
        if state := module.state_dict():
            components[name] = state
            components[f"{name}_ema"] = average.modules[name].state_dict()
    with atomic_folder(target) as folder:
        write_artifact(
            folder,
            kind=recipe.kind,
            config=recipe.artifact_config(average.modules, complete=seen >= total),
            components=components,
            provenance={"samples_seen": seen, "samples": total, "run": recipe.recipe_config()},
        )
        tensors, settings = _optimiser_state(recipe)
        for name, module in recipe.auxiliary.items():
            tensors |= {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
        tensors |= {f"logs/{key}": value for key, value in logs.items()}
        save_tensors(folder / "training.safetensors", tensors)
        write_json(folder / "training.json", {"samples_seen": seen, "optimisers": settings})
    for old in sorted((run / "checkpoints").glob("[0-9]*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(run: Path, recipe: Recipe, average: MovingAverage) -> tuple[int, dict[str, Tensor]]:
    """Restore the newest checkpoint into ``recipe`` and ``average``; return the samples seen (0: none there) and logs.

    Raises:
        UserError: a file of it is missing or damaged.
    """
    folder = latest_checkpoint(run)
    if folder is None:
        return 0, {}
    for name, module in recipe.averaged.items():
        if module.state_dict():
            module.load_state_dict(load_tensors(folder / f"{name}.safetensors"))
            average.modules[name].load_state_dict(load_tensors(folder / f"{name}_ema.safetensors"))
    state = read_json(folder / "training.json")
    tensors = load_tensors(folder / "training.safetensors")
    for name, module in recipe.auxiliary.items():
        module.load_state_dict(_under(f"module/{name}/", tensors))
    _restore_optimisers(recipe, tensors, state["optimisers"])
    return int(state["samples_seen"]), _under("logs/", tensors)


def training_state(recipe: Recipe) -> dict[str, Any]:
    """Copy everything a training step changes, for ``restore_training_state``."""
    modules = {**recipe.averaged, **recipe.auxiliary}
    return {
        "modules": {name: _copied(module) for name, module in modules.items()},
        "optimisers": {name: optimiser.state_dict()["state"] for name, (optimiser, _) in recipe.optimisers.items()},
    }


def restore_training_state(recipe: Recipe, state: Mapping[str, Any]) -> None:
    """Put back what ``training_state`` copied before the first step: weights as they were, optimisers empty."""
    for name, module in {**recipe.averaged, **recipe.auxiliary}.items():
        module.load_state_dict(state["modules"][name])
    for name, (optimiser, _) in recipe.optimisers.items():
        assert not state["optimisers"][name], "only the state before the first step can be restored"
        optimiser.state.clear()
        optimiser.zero_grad(set_to_none=True)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def _optimiser_state(recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    tensors: dict[str, Tensor] = {}
    settings: dict[str, list[int]] = {}
    for name, (optimiser, _) in recipe.optimisers.items():
        state = optimiser.state_dict()["state"]
        settings[name] = sorted(state)
        for index, values in state.items():
            tensors |= {f"optimiser/{name}/{index}/{key}": torch.as_tensor(value) for key, value in values.items()}
    return tensors, settings


def _restore_optimisers(recipe: Recipe, tensors: Mapping[str, Tensor], settings: Mapping[str, list[int]]) -> None:
    for name, (optimiser, _) in recipe.optimisers.items():
        state = {index: _under(f"optimiser/{name}/{index}/", tensors) for index in settings[name]}
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
