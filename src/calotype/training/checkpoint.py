"""Checkpoints: an artifact with the training state beside it, complete or absent, without pickles."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from calotype.artifact import latest_checkpoint, write_artifact
from calotype.training.ema import MovingAverage
from calotype.training.recipe import Recipe
from calotype.training.state import State, module_tensors, optimiser_tensors, restore_modules, restore_optimisers, under
from calotype.utils.files import atomic_folder, read_json, remove_litter, write_json
from calotype.utils.tensors import load_tensors, save_tensors

KEPT = "kept.safetensors"
Health = tuple[dict[str, Any], State, State]


def checkpoint_folder(run: Path, seen: int) -> Path:
    """Return where the checkpoint after ``seen`` samples is, or will be."""
    return run / "checkpoints" / f"{seen:010d}"


def save_checkpoint(
    run: Path,
    recipe: Recipe,
    average: MovingAverage,
    logs: Mapping[str, Tensor],
    *,
    health: tuple[Mapping[str, Any], Mapping[str, Tensor]],
    kept: Mapping[str, Tensor],
    seen: int,
    total: int,
    keep: int,
) -> Path:
    """Write the checkpoint so that it appears at once, then remove all but the newest ``keep``.

    ``logs`` is ``StepLogs.state()``: the steps that no line of metrics tells of yet. ``health`` is ``Guard.state()``,
    and ``kept`` the state that the run may have to go back to, where that is not the one that is saved.
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
        guard, pending = health
        tensors = optimiser_tensors(recipe) | module_tensors("module", recipe.auxiliary)
        tensors |= module_tensors("track", average.track_modules)
        tensors |= {f"logs/{key}": value for key, value in logs.items()}
        tensors |= {f"health/{key}": value for key, value in pending.items()}
        save_tensors(folder / "training.safetensors", tensors)
        if kept:
            save_tensors(folder / KEPT, kept)
        write_json(folder / "training.json", {"samples_seen": seen, "health": guard})
    for old in sorted((run / "checkpoints").glob("[0-9]*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(run: Path, recipe: Recipe, average: MovingAverage) -> tuple[int, State, Health | None]:
    """Restore the newest checkpoint into ``recipe`` and ``average``.

    Returns:
        The samples seen (0: there is no checkpoint), the logs, and what ``Guard.load`` takes, if it is there.

    Raises:
        UserError: a file of it is missing or damaged.
    """
    folder = latest_checkpoint(run)
    if folder is None:
        return 0, {}, None
    for name, module in recipe.averaged.items():
        if module.state_dict():
            module.load_state_dict(load_tensors(folder / f"{name}.safetensors"))
            average.modules[name].load_state_dict(load_tensors(folder / f"{name}_ema.safetensors"))
    state = read_json(folder / "training.json")
    tensors = load_tensors(folder / "training.safetensors")
    restore_modules("module", recipe.auxiliary, tensors)
    restore_modules("track", average.track_modules, tensors)
    restore_optimisers(recipe, tensors)
    health = None
    if "health" in state:
        kept = load_tensors(folder / KEPT) if (folder / KEPT).exists() else {}
        health = state["health"], under("health/", tensors), kept
    return int(state["samples_seen"]), under("logs/", tensors), health
