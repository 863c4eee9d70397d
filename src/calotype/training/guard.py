"""What is done about a run that goes wrong: a step is left out, or the run goes back to where all was well."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from calotype.training.ema import MovingAverage
from calotype.training.health import LOWER_RATE, LOWER_WEIGHT, Finding, HealthMonitor
from calotype.training.optimiser import NonFiniteError, step_share
from calotype.training.recipe import Recipe
from calotype.training.state import State, module_tensors, restore_training_state, training_state
from calotype.utils import distributed

KEEP_EVERY, MOST_STALLS, STALL_FACTOR = 4, 2, 0.25
MOST_SHARE, SAFE_SHARE = 0.5, 0.25
MOST_WEIGHT, SAFE_WEIGHT = 1.0, 0.125
"""What is lowered before the first step, above the one to below the other: the length of a step as a share of the
weights' size, and ``disc_weight``."""


class GaveUp(RuntimeError):
    """Nothing more is to be tried. The recipe is in the last state in which all was well."""


@dataclass(frozen=True)
class Event:
    """Something seen, and what was done about it, in one line."""

    rule: str
    message: str


class Guard:
    """Watches over the steps of a run and intervenes, ``limit`` times at most (0: it only says what it sees).

    Learning rates and a ``disc_weight`` that are out of all proportion are lowered before the first step. A copy of the
    training state is kept from when all was well. A step that is not finite has changed nothing: it is left out. If the
    next one is not finite either, or the loss diverges, the run goes back to the copy and goes on from there with the
    batches that come next, at half the learning rates, or with half of ``disc_weight`` where the discriminator is the
    cause; what has not helped is done again, twice as hard, and in the end together with the other. A discriminator
    that weighs too much is eased in the same way, as often as need be. A loss that stalls is eased without going back.

    ``undone`` is told, whenever the run goes back, after how many samples all that followed is void. What is done is a
    function of the logs and of samples seen, the same on every process, and part of the checkpoint.
    """

    def __init__(
        self,
        recipe: Recipe,
        average: MovingAverage,
        *,
        batch_size: int,
        total: int,
        limit: int,
        seen: int,
        undone: Callable[[int], None],
    ) -> None:
        self.recipe, self.average, self.batch_size, self.limit = recipe, average, batch_size, limit
        self.undone = undone
        self.monitor = HealthMonitor(recipe.watched, batch_size=batch_size, total=total)
        self.rate_factor, self.disc_factor = 1.0, 1.0
        self.interventions, self.in_vain, self.stalls = 0, 0, 0
        self.failed_at: int | None = None
        self.kept_at, self.kept = seen, training_state(recipe, average) if limit else {}

    def before_first_step(self) -> list[Event]:
        """Look at the settings, and lower by halves what is out of proportion from the start.

        A step as long as the weights are large undoes what others have learned; by the time that a loss shows it the
        weights have grown, and a lower rate does not shrink them. ``disc_weight`` is the discriminator's share of the
        gradient at the last layer, the reconstruction's being 1.
        """
        if self.rate_factor < 1 or self.disc_factor < 1:
            return []
        events = []
        for name, (optimiser, settings) in self.recipe.optimisers.items():
            rate = settings.learning_rate * self.rate_factor
            share = step_share(optimiser, rate)
            if share > MOST_SHARE:
                sees = f"a step at learning rate {rate:g} moves the weights of the {name} by {share:.0%} of their size"
                events.append(self._lower("step size", sees, LOWER_RATE, rates=_halved(share, SAFE_SHARE)))
        weight = self.recipe.disc_weight
        if weight > MOST_WEIGHT:
            sees = f"with disc_weight {weight:g} the discriminator outweighs the images"
            events.append(self._lower("disc_weight", sees, LOWER_WEIGHT, disc=_halved(weight, SAFE_WEIGHT)))
        return events

    def after_step(self, seen: int, logs: Mapping[str, Tensor]) -> list[Event]:
        """Take note of a step that went well, which ended at ``seen`` samples; look and act where it is time.

        Raises:
            GaveUp: the loss has diverged once more than it may.
        """
        self.monitor.add(logs)
        step = seen // self.batch_size
        if step % self.monitor.interval:
            return []
        events = [self._act(finding, seen) for finding in self.monitor.look()]
        if self.limit and self.monitor.sound and step % (KEEP_EVERY * self.monitor.interval) == 0:
            self.kept_at, self.kept, self.in_vain = seen, training_state(self.recipe, self.average), 0
        return events

    def after_failure(self, error: NonFiniteError, seen: int, images: str) -> Event:
        """Decide what follows a step that was not finite, which ended at ``seen`` samples and read ``images``.

        Raises:
            GaveUp: there have been too many interventions.
        """
        at = f"{error} at {seen - self.batch_size} {self.recipe.unit} ({images})"
        if self.interventions >= self.limit:
            if self.limit and not self._whole():
                self._go_back()
            so_far = f" after {self.interventions} interventions" if self.limit else ""
            raise GaveUp(f"{at}: stopped before any weight changed{so_far}")
        self.interventions += 1
        again, self.failed_at = self.failed_at == seen - self.batch_size, seen
        if again:
            did = self._roll_back(adversarial=False)
        elif not self._whole():
            did = self._go_back()
        else:
            did = "left this step out, nothing has changed"
        return Event("not finite", f"{at}: {did} ({self._count()})")

    def state(self) -> tuple[dict[str, Any], State]:
        """Return what it knows as JSON data, and as tensors the steps since the last look."""
        names = ("rate_factor", "disc_factor", "interventions", "in_vain", "stalls", "failed_at", "kept_at")
        monitor, pending = self.monitor.state()
        return {**{name: getattr(self, name) for name in names}, "monitor": monitor}, pending

    def load(self, state: Mapping[str, Any], pending: Mapping[str, Tensor], kept: State) -> None:
        """Take back what ``state`` returned; ``kept`` is the copy to go back to, empty where it is what runs now."""
        here, state = self.kept_at, dict(state)
        self.monitor.load(state.pop("monitor"), pending)
        for name, value in state.items():
            setattr(self, name, value)
        if self.limit and kept:
            self.kept = kept
        elif self.limit:
            self.kept_at = here
        self.recipe.scale_discriminator(self.disc_factor)

    def _lower(self, rule: str, sees: str, advice: str, *, rates: float = 1.0, disc: float = 1.0) -> Event:
        if self.limit:
            self.rate_factor *= rates
            self.disc_factor *= disc
        return Event(rule, f"{sees}: {self._settle() if self.limit else advice}")

    def _act(self, finding: Finding, seen: int) -> Event:
        if not self.limit or finding.remedy == "say":
            return Event(finding.rule, f"{finding.sees} at {seen} {self.recipe.unit}: {finding.advice}")
        did = self._remedy(finding)
        return Event(finding.rule, f"{finding.sees} at {seen} {self.recipe.unit}: {did}")

    def _remedy(self, finding: Finding) -> str:
        adversarial = "d_weight" in self.monitor.series
        if finding.remedy == "roll_back":
            if self.interventions >= self.limit:
                self._go_back()
                raise GaveUp(
                    f"{finding.sees}, after {self.interventions} interventions: stopped, back at {self.kept_at} "
                    f"{self.recipe.unit}; {finding.advice}"
                )
            self.interventions += 1
            return f"{self._roll_back(adversarial)} ({self._count()})"
        if finding.remedy == "ease_discriminator":
            return self._roll_back(adversarial=True)
        if self.stalls < MOST_STALLS:
            self.stalls += 1
            self.rate_factor *= STALL_FACTOR
        else:
            return finding.advice
        return self._settle()

    def _roll_back(self, adversarial: bool) -> str:
        """Go back and turn down what is to blame: half at first, a quarter of that if it was in vain, and so on."""
        factor = 0.5 ** (self.in_vain + 1)
        if adversarial:
            self.disc_factor *= factor
        if not adversarial or self.in_vain > 1:
            self.rate_factor *= factor
        self.in_vain += 1
        return f"{self._go_back()}, {self._settle()}"

    def _go_back(self) -> str:
        restore_training_state(self.recipe, self.kept, self.average)
        self.undone(self.kept_at)
        self.monitor.forget()
        return f"went back to what it was at {self.kept_at} {self.recipe.unit}"

    def _settle(self) -> str:
        self.recipe.scale_discriminator(self.disc_factor)
        self.monitor.forget()
        said = {"learning rates": self.rate_factor, "disc_weight": self.disc_factor}
        return " and ".join(f"{name} now x{value:g}" for name, value in said.items() if value < 1)

    def _whole(self) -> bool:
        """Return whether weights and buffers are finite: running statistics move before a step can be judged."""
        modules = {**self.recipe.averaged, **self.recipe.auxiliary}
        floats = [value for value in module_tensors("", modules).values() if value.is_floating_point()]
        return not distributed.any_rank(any(not bool(torch.isfinite(value).all()) for value in floats))

    def _count(self) -> str:
        return f"intervention {self.interventions} of {self.limit}"


def _halved(value: float, most: float) -> float:
    """Return the power of a half that brings ``value`` down to ``most`` or less."""
    return 0.5 ** math.ceil(math.log2(value / most))
