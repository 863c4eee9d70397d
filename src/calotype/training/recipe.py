"""What a recipe is: the losses and optimisers of one training step, and nothing about time, files or logs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from calotype.data.transforms import Transform
from calotype.training.draws import Draws
from calotype.training.optimiser import OptimiserConfig
from calotype.training.session import Session
from calotype.utils.config import from_dict, to_dict


@runtime_checkable
class Source(Protocol):
    """Where batches come from: a pure function of the position in the run."""

    def batch(self, start: int, count: int, rows: slice = ...) -> Any:
        """Return this process's ``rows`` of the global batch of samples ``start .. start + count - 1``."""

    def prefetch(self, start: int, count: int, rows: slice = ...) -> None:
        """Begin to load a batch that will be asked for next."""

    def __len__(self) -> int: ...


class Recipe(ABC):
    """One kind of training. The trainer calls ``start`` once, then ``step`` for every batch.

    ``averaged`` are the modules that inference uses: saved as components of the artifact, each with its moving average.
    ``auxiliary`` modules are needed to train on only. ``optimisers`` map a name to an optimiser and its configuration.
    """

    kind: str
    config: Any
    unit = "images"
    late_from = 1.0
    """The share of a run after which a step costs more; the trainer's timing looks at both phases."""
    disc_weight = 0.0
    """The discriminator's gradient at the last layer, that of the rest being 1; 0 where there is none."""
    watched = "loss"
    """The name of the logged loss that must not rise: positive, and the same thing all along the run."""

    averaged: dict[str, nn.Module]
    auxiliary: dict[str, nn.Module]
    optimisers: dict[str, tuple[torch.optim.Optimizer, OptimiserConfig]]

    @abstractmethod
    def start(self, session: Session, batch_size: int) -> None:
        """Move to the session's device and build the optimisers."""

    def begin(self, total: int) -> None:  # noqa: B027 - most recipes do not care
        """Learn the length of the run, in samples, before the first step."""

    @abstractmethod
    def step(self, batch: Any, draws: Draws) -> dict[str, Tensor]:
        """Take one training step and return what to log (0-d tensors).

        Raises:
            NonFiniteError: before anything has changed.
        """

    def scale_discriminator(self, factor: float) -> None:  # noqa: B027 - most recipes have none
        """Multiply the configured weight of the discriminator by ``factor``."""

    @abstractmethod
    def validate(self, averaged: Mapping[str, nn.Module]) -> dict[str, float]:
        """Measure the averaged modules on held-out data with fixed noise; an empty dict where there is none."""

    @abstractmethod
    def preview(self, averaged: Mapping[str, nn.Module]) -> np.ndarray | None:
        """Draw a picture (HWC, uint8) of how it goes."""

    @abstractmethod
    def artifact_config(self, averaged: Mapping[str, nn.Module], complete: bool) -> dict[str, Any]:
        """Return the configuration that the artifact needs in order to be loaded; ``complete``: the run has ended."""

    def artifact_components(self) -> dict[str, Any]:
        """Return components beside the trained ones: state dicts or paths of files."""
        return {}

    @abstractmethod
    def recipe_config(self) -> dict[str, Any]:
        """Return everything that makes this run what it is, to be compared when it is resumed."""

    def completed(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return a stored ``recipe_config``, the settings that did not exist when it was written at their defaults.

        Raises:
            UserError: it cannot be read.
        """
        names = {field.name for field in fields(self.config)}
        known = {name: value for name, value in stored.items() if name in names}
        completed = {**stored, **to_dict(from_dict(type(self.config), known, where="config.json"))}
        if "transform" in stored:
            completed["transform"] = to_dict(from_dict(Transform, stored["transform"], where="config.json"))
        return completed
