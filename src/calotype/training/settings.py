"""The settings of a run, and whether those of a folder are the same."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from calotype.training.ema import EMAConfig, PowerFunctionEMA
from calotype.training.recipe import Recipe
from calotype.training.session import Precision
from calotype.utils.config import Config, from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(Config):
    """Where and how long to train. Progress is counted in samples seen.

    Give ``samples`` or ``minutes``; minutes are turned into samples once, by a short timing, and frozen in the run's
    config.json. Intervals are in samples; None picks a share of the run. ``interventions`` is how often a run that goes
    wrong is put right before it ends (0: never; a loss that is not finite ends it). So many ``ema_snapshots`` are
    kept (0: none), from which averages of any length can be put together afterwards (``training/ema_snapshots.py``).
    """

    out: str
    samples: int | None = None
    minutes: float | None = None
    batch_size: int = 64
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    ema: EMAConfig = PowerFunctionEMA()
    ema_snapshots: int = 0
    interventions: int = 5
    log_every: int | None = None
    validate_every: int | None = None
    preview_every: int | None = None
    checkpoint_every: int | None = None
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        if (self.samples is None) == (self.minutes is None):
            raise ValueError("give either samples or minutes")
        if (self.samples or self.minutes or 0) <= 0:
            raise ValueError("samples or minutes must be positive")
        for name in ("batch_size", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("interventions", "ema_snapshots"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")


def comparable(config: TrainerConfig) -> dict[str, Any]:
    """Return the settings that must not change when a run is resumed."""
    kept = ("batch_size", "seed", "ema", "ema_snapshots")
    return {key: value for key, value in to_dict(replace(config, out="")).items() if key in kept}


def completed(stored: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return a run's settings, those that did not exist when they were written at their defaults."""
    if stored["recipe"]["kind"] != recipe.kind:
        return dict(stored)
    ema = to_dict(from_dict(EMAConfig, stored["trainer"]["ema"], where="ema"))
    trainer = {"ema_snapshots": 0, **stored["trainer"], "ema": ema}
    return {**stored, "recipe": recipe.completed(stored["recipe"]), "trainer": trainer}


def differences(stored: Any, wanted: Any, path: str = "") -> str:
    """Say in words where two settings differ; nothing where they do not."""
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        parts = [differences(stored.get(k), wanted.get(k), f"{path}.{k}".lstrip(".")) for k in {**stored, **wanted}]
        return ", ".join(part for part in parts if part)
    return "" if stored == wanted else f"{path}: {stored!r} then, {wanted!r} now"[:200]
