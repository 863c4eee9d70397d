"""What the numbers of a training run say about its health: rules, each with one line that says what to do.

A run is looked at some two hundred times. A rule sees medians over the steps between two looks, so that single batches
do not matter, and the *level* of the watched loss: its median over at least 32 steps and 512 samples, which moves by
some 4 % by chance. What the rules say is acted on in ``training/guard.py``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
from torch import Tensor

from calotype.training.logs import StepLogs

LOOKS, MOST_STEPS = 200, 100
LEVEL_STEPS, LEVEL_SAMPLES = 32, 512
HISTORY, LONG, LASTING_STEPS = 40, 10, 100
"""How many looks are remembered, and for how many something must last that is normal for a while: 5 % of a run, and
never less than these steps: in fewer a discriminator has not learned to tell anything."""
SUSPICIOUS, TAKEN_OVER, DIVERGED = 1.2, 1.25, 1.5
"""The level of the loss over its best: above this nothing is kept to go back to; the discriminator weighs too much;
training has come apart."""
PATIENCE, PROGRESS = 0.08, 0.98
"""The share of a run within which the level is to fall by 2 % (and never less than the steps of two levels)."""
CHANCE_GAP, SURE_GAP, SURE_LOSS = 0.05, 2.0, 0.05
DEAD_CODES, COLLAPSED_NATS, RUNAWAY = 0.1, 0.01, 100.0

Remedy = Literal["say", "ease_learning_rates", "ease_discriminator", "roll_back"]


@dataclass(frozen=True)
class Finding:
    """What a rule has found: what is to be seen, what a user can do, and what the guard may do."""

    rule: str
    sees: str
    advice: str
    remedy: Remedy = "say"


@dataclass(frozen=True)
class Vitals:
    """What rules look at: medians between looks, newest last, and the watched loss.

    ``long`` is the number of looks for which something must last. ``level`` is None until there are steps enough.
    ``without_progress`` is the share of the run since the level last
    fell by 2 %, ``patience`` how much of it is too much.
    """

    series: Mapping[str, Sequence[float]]
    long: int = LONG
    level: float | None = None
    best: float = math.inf
    without_progress: float = 0.0
    patience: float = PATIENCE

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator takes part."""
        return bool(self.series.get("d_weight"))

    def lately(self, name: str) -> Sequence[float]:
        """Return the values of the last looks; nothing where there were fewer than ``long``."""
        values = self.series.get(name, ())
        return values[-self.long :] if len(values) >= self.long else ()


def divergence(vitals: Vitals) -> Finding | None:
    """The level is 1.5 times its best: that is more than chance, more than a GAN's price, and does not mend itself."""
    if vitals.level is None or vitals.level <= DIVERGED * vitals.best:
        return None
    sees = f"the loss is at {vitals.level:.3g}, {vitals.level / vitals.best:.1f} times its best"
    return Finding("divergence", sees, LOWER_WEIGHT if vitals.adversarial else LOWER_RATE, "roll_back")


def takeover(vitals: Vitals) -> Finding | None:
    """With a discriminator the reconstruction is 1.25 times worse than it was: it looks for realism, not likeness."""
    if vitals.level is None or not vitals.adversarial:
        return None
    worse = vitals.level / vitals.best
    if not TAKEN_OVER < worse <= DIVERGED:
        return None
    sees = f"the discriminator has made the reconstruction {worse:.2f} times worse than its best"
    return Finding("takeover", sees, LOWER_WEIGHT, "ease_discriminator")


def stall(vitals: Vitals) -> Finding | None:
    """Without a discriminator the reconstruction has not become 2 % better for 8 % of the run."""
    if vitals.adversarial or "reconstruction" not in vitals.series or vitals.without_progress < vitals.patience:
        return None
    sees = f"the reconstruction has not improved for {vitals.without_progress:.0%} of the run"
    return Finding("stall", sees, LOWER_RATE, "ease_learning_rates")


def runaway(vitals: Vitals) -> Finding | None:
    """Gradient norm or adaptive weight are a hundred times what they usually are."""
    for name, what in {"gradient_norm": "the gradient norm", "d_weight": "the discriminator's adaptive weight"}.items():
        values = vitals.lately(name)
        if values and min(values[-3:]) > RUNAWAY * median(vitals.series[name]):
            sees = f"{what} is at {values[-1]:.3g}, far above its usual {median(vitals.series[name]):.3g}"
            return Finding("runaway", sees, f"{LOWER_RATE} or clip")
    return None


def discriminator_collapse(vitals: Vitals) -> Finding | None:
    """The mean logits of real and generated images are within 0.05 for long.

    By Jensen's inequality the hinge loss is then at least 0.975, its constant value being 1, and the cross-entropy at
    least 0.68 (0.69).
    """
    gaps = _gaps(vitals)
    if not gaps or max(map(abs, gaps)) > CHANCE_GAP:
        return None
    sees = f"the discriminator cannot tell real from generated (logits {gaps[-1]:.2g} apart)"
    return Finding("discriminator collapse", sees, "raise its learning rate, or train without it (disc_from 1)")


def discriminator_dominance(vitals: Vitals) -> Finding | None:
    """The discriminator's loss is below 0.05 and the logits more than 2 apart for long: it teaches nothing any more."""
    gaps, losses = _gaps(vitals), vitals.lately("disc_loss")
    if not gaps or not losses or min(gaps) < SURE_GAP or max(losses) > SURE_LOSS:
        return None
    sees = f"the discriminator is sure of every image (loss {losses[-1]:.2g}, logits {gaps[-1]:.2g} apart)"
    return Finding("discriminator dominance", sees, "lower its learning rate, or set r1_weight or lecam_weight")


def dead_codes(vitals: Vitals) -> Finding | None:
    """Batches use less than a tenth of the codes that they could, for long."""
    use = vitals.lately("code_use")
    if not use or max(use) > DEAD_CODES:
        return None
    sees = f"only {use[-1]:.1%} of the codes are used"
    return Finding("dead codes", sees, "take fewer codes (FSQ: fewer levels), or restart idle ones more often")


def posterior_collapse(vitals: Vitals) -> Finding | None:
    """The posterior says less than 0.01 nats per latent number for long: latents are noise, nothing gets through."""
    nats = vitals.lately("nats_per_latent")
    if not nats or max(nats) > COLLAPSED_NATS:
        return None
    return Finding("posterior collapse", f"latents carry {nats[-1]:.2g} nats each, next to nothing", "lower kl_weight")


LOWER_RATE, LOWER_WEIGHT = "lower the learning rate", "lower disc_weight"
RULES: tuple[Callable[[Vitals], Finding | None], ...] = (
    divergence,
    takeover,
    stall,
    runaway,
    discriminator_collapse,
    discriminator_dominance,
    dead_codes,
    posterior_collapse,
)
WATCHED = (
    *("gradient_norm", "disc_loss", "logits_real", "logits_fake", "d_weight"),
    *("code_use", "nats_per_latent"),
)


class HealthMonitor:
    """Collects what steps log and asks the rules from time to time. Everything it knows is part of the checkpoint.

    ``watched`` is the name of the loss that must not rise. What it finds is a function of the logs alone, which are
    averaged over the processes: every process finds the same.
    """

    def __init__(self, watched: str, *, batch_size: int, total: int) -> None:
        self.watched, self.steps = watched, max(1, total // batch_size)
        self.interval = min(max(1, self.steps // LOOKS), MOST_STEPS)
        self.long = max(LONG, math.ceil(LASTING_STEPS / self.interval))
        self.per_level = math.ceil(max(LEVEL_STEPS, LEVEL_SAMPLES / batch_size) / self.interval)
        self.pending = StepLogs({})
        self.series: dict[str, list[float]] = {}
        self.best, self.mark, self.progress_at, self.looks = math.inf, math.inf, 0, 0
        self.active: list[str] = []

    def add(self, logs: Mapping[str, Tensor]) -> None:
        """Remember what one step returned."""
        self.pending.add({name: logs[name] for name in (self.watched, *WATCHED) if name in logs})

    def look(self) -> list[Finding]:
        """Take in the steps since the last look and return what the rules find, each once until it has passed."""
        values = {name: np.median(_finite(steps)).item() for name, steps in self.pending.state().items()}
        if not values:
            return []
        self.pending, self.looks = StepLogs({}), self.looks + 1
        kept = max(HISTORY, self.long, self.per_level)
        self.series = {name: [*self.series.get(name, ()), value][-kept:] for name, value in values.items()}
        vitals = self._vitals()
        found = [finding for rule in RULES if (finding := rule(vitals)) is not None]
        new = [finding for finding in found if finding.rule not in self.active]
        self.active = [finding.rule for finding in found]
        return new

    @property
    def sound(self) -> bool:
        """Whether the loss, over all of a level and the last quarter of it, is close to its best."""
        values = self.series.get(self.watched, [])
        if len(values) < self.per_level:
            return False
        quarter = values[-math.ceil(self.per_level / 4) :]
        return max(median(values[-self.per_level :]), median(quarter)) <= SUSPICIOUS * self.best

    def forget(self) -> None:
        """Begin anew after an intervention: what was seen before it no longer counts, but for the best."""
        self.pending, self.series, self.progress_at, self.active = StepLogs({}), {}, self.looks, []

    def _vitals(self) -> Vitals:
        values = self.series.get(self.watched, [])
        level = median(values[-self.per_level :]) if len(values) >= self.per_level else None
        if level is None:
            self.progress_at = self.looks
        else:
            self.best = min(self.best, level)
            if level < PROGRESS * self.mark:
                self.mark, self.progress_at = level, self.looks
        waited = (self.looks - self.progress_at) * self.interval / self.steps
        patience = max(PATIENCE, 2 * self.per_level * self.interval / self.steps)
        return Vitals(self.series, self.long, level, self.best, waited, patience)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what it knows as JSON data, and the steps since the last look."""
        numbers = {name: None if math.isinf(value := getattr(self, name)) else value for name in ("best", "mark")}
        counts = {"progress_at": self.progress_at, "looks": self.looks}
        return {**numbers, **counts, "series": self.series, "active": self.active}, self.pending.state()

    def load(self, state: Mapping[str, Any], pending: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` returned."""
        self.best, self.mark = (math.inf if state[name] is None else state[name] for name in ("best", "mark"))
        self.progress_at, self.looks = state["progress_at"], state["looks"]
        self.series, self.active = dict(state["series"]), list(state["active"])
        self.pending = StepLogs(pending)


def _gaps(vitals: Vitals) -> list[float]:
    real, fake = vitals.lately("logits_real"), vitals.lately("logits_fake")
    return [a - b for a, b in zip(real, fake, strict=False)]


def _finite(values: Tensor) -> np.ndarray:
    return np.nan_to_num(values.detach().cpu().double().numpy(), posinf=1e30, neginf=-1e30)
