"""The one training loop. It owns time, devices, moving averages, checkpoints and logs; a recipe owns the step."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.artifact import write_config
from calotype.training.checkpoint import checkpoint_folder, load_checkpoint, save_checkpoint
from calotype.training.draws import Draws
from calotype.training.ema import EMAConfig, MovingAverage, PowerFunctionEMA
from calotype.training.interrupt import Interrupted, stop_request
from calotype.training.logs import RunLog, StepLogs
from calotype.training.optimiser import NonFiniteError
from calotype.training.recipe import Recipe, Source
from calotype.training.session import Precision, Session, start_session
from calotype.training.timing import seconds_per_step
from calotype.utils import distributed
from calotype.utils.config import Config, from_dict, to_dict
from calotype.utils.errors import UserError
from calotype.utils.files import read_json, remove_litter
from calotype.utils.progress import Progress, clock, progress
from calotype.utils.seeds import seed_of

log = logging.getLogger("calotype")


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what happened and what is saved."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig(Config):
    """Where and how long to train. Progress is counted in samples seen.

    Give ``samples`` or ``minutes``; minutes are turned into samples once, by a short timing, and frozen in the run's
    config.json. Intervals are in samples; None picks a share of the run.
    """

    out: str
    samples: int | None = None
    minutes: float | None = None
    batch_size: int = 64
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    ema: EMAConfig = PowerFunctionEMA()
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


class Trainer:
    """Runs a recipe over a source until the samples are seen, the user stops it, or a loss is not finite.

    The same call on the same folder resumes: the result equals that of a run that was never stopped.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self.config, self.run = config, Path(config.out)

    def fit(self, recipe: Recipe, source: Source) -> Path:
        """Train, or go on training, and return the folder of the last checkpoint. Joins the group that torchrun set up.

        Raises:
            UserError: the folder belongs to another run, or the batch does not divide over the processes.
            Interrupted: the run was asked to stop; it is saved.
            TrainingError: a loss or gradient was not finite; nothing of that step was applied.
        """
        threads = torch.get_num_threads()
        try:
            with distributed.process_group():
                return self._fit(recipe, source)
        finally:
            torch.set_num_threads(threads)

    def _fit(self, recipe: Recipe, source: Source) -> Path:
        if self.config.batch_size % distributed.world_size():
            raise UserError(
                f"batch_size {self.config.batch_size} must be a multiple of {distributed.world_size()} processes"
            )
        session = start_session(self.config.device, self.config.precision)
        recipe.start(session, self.config.batch_size)
        total = self._total_samples(recipe, source, session)
        recipe.begin(total)
        average = MovingAverage(recipe.averaged, self.config.ema)
        seen, logs = load_checkpoint(self.run, recipe, average)
        if seen:
            log.info(f"resuming {self.run} at {seen} of {total} {recipe.unit}")
        with stop_request() as stop:
            loop = _Loop(self.config, self.run, recipe, source, session, average, total, StepLogs(logs))
            try:
                return loop.until_done(seen, stop)
            finally:
                loop.close()

    def _total_samples(self, recipe: Recipe, source: Source, session: Session) -> int:
        """Return the length of the run: from its config.json, or decided now and written there."""
        frozen = self.run / "config.json"
        wanted: dict[str, Any] = {"recipe": recipe.recipe_config(), "trainer": _comparable(self.config)}
        if self.config.samples:
            wanted["samples"] = self._whole_batches(self.config.samples)
        if not distributed.any_rank(frozen.exists()):
            total = wanted.get("samples") or self._whole_batches(self._calibrate(recipe, source, session))
            threads = torch.get_num_threads()
            if distributed.is_main():
                write_config(
                    self.run,
                    kind="training_run",
                    config={**wanted, "samples": total, "minutes": self.config.minutes, "threads": threads},
                    provenance={"device": str(session.device), "bf16": session.bf16},
                )
            distributed.barrier()
        stored = _completed(read_json(frozen)["config"], recipe)
        if changed := _differences({key: stored.get(key) for key in wanted}, wanted):
            raise UserError(f"{self.run} was begun with other settings ({changed}): choose another --out")
        if self.config.minutes is not None:
            torch.set_num_threads(stored["threads"])
        return int(stored["samples"])

    def _calibrate(self, recipe: Recipe, source: Source, session: Session) -> int:
        """Time a few steps and return the samples that fit into the minutes asked for.

        On a CPU this is also where the number of threads is chosen: all, or, where the cores are busy with something
        else, a single one, which is then several times faster than threads that wait for one another.
        """
        assert self.config.minutes is not None
        size, begun, every = self.config.batch_size, time.monotonic(), torch.get_num_threads()
        choices = {every, 1} if session.device.type == "cpu" else {every}
        rows = session.rows(size)
        try:
            seconds, threads = seconds_per_step(
                recipe, source, seed=self.config.seed, batch_size=size, rows=rows, threads=choices
            )
        except NonFiniteError as error:
            raise TrainingError(f"{error} at the first steps: look at the data with `calotype data check`") from error
        torch.set_num_threads(threads)
        if threads < every:
            log.info(f"training on one thread: the {every} cores are busy, and together they would be slower")
        left = max(60 * self.config.minutes - (time.monotonic() - begun), 1.0)
        log.info(f"{size / seconds:.0f} {recipe.unit}/s: {size * left / seconds:.0f} {recipe.unit} in {clock(left)}")
        return int(size * left / seconds)

    def _whole_batches(self, samples: int) -> int:
        return max(1, round(samples / self.config.batch_size)) * self.config.batch_size


class _Loop:
    """The state of one call of ``Trainer.fit``."""

    def __init__(
        self,
        config: TrainerConfig,
        run: Path,
        recipe: Recipe,
        source: Source,
        session: Session,
        average: MovingAverage,
        total: int,
        logs: StepLogs,
    ) -> None:
        self.config, self.run, self.recipe, self.source = config, run, recipe, source
        self.average, self.total, self.logs = average, total, logs
        self.rows = session.rows(config.batch_size)
        self.saved: Path | None = None
        self.log: RunLog | None = None
        share = {"log_every": 200, "validate_every": 12, "preview_every": 4, "checkpoint_every": 4}
        self.every = {
            name: getattr(config, name) or max(config.batch_size, total // parts) for name, parts in share.items()
        }

    def until_done(self, seen: int, stop: Any) -> Path:
        size = self.config.batch_size
        if distributed.is_main():
            remove_litter(self.run)
            remove_litter(checkpoint_folder(self.run, seen).parent)
            self.log = RunLog(self.run, seen=seen)
        with progress(self.run.name, self.total, done=seen, unit=self.recipe.unit) as bar:
            while seen < self.total:
                if distributed.any_rank(bool(stop)):
                    self._save(seen)
                    raise Interrupted(
                        f"stopped at {seen} of {self.total} {self.recipe.unit}, all saved in {self.run}; "
                        "run the same command again to go on",
                        stop.exit_code,
                    )
                self.logs.add(self._step(seen))
                seen += size
                self.average.update(seen // size)
                if self._due("log_every", seen):
                    self._log(seen, bar)
                self._look(seen)
                if self._due("checkpoint_every", seen):
                    self._save(seen)
                bar.advance(size)
        if self.saved is None:
            self._save(seen)
        assert self.saved is not None
        return self.saved

    def close(self) -> None:
        if self.log:
            self.log.close()

    def _step(self, seen: int) -> dict[str, Tensor]:
        size = self.config.batch_size
        batch = self.source.batch(seen, size, self.rows)
        if seen + size < self.total:
            self.source.prefetch(seen + size, size, self.rows)
        torch.manual_seed(seed_of(self.config.seed, "dropout", seen, distributed.rank()))
        for optimiser, settings in self.recipe.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = settings.rate(seen, self.total)
        try:
            return self.recipe.step(batch, Draws(self.config.seed, seen, size, self.rows))
        except NonFiniteError as error:
            self._save(seen)
            raise TrainingError(
                f"{error} at {seen} {self.recipe.unit} (indices {batch.indices[:8].tolist()} ...): stopped before any "
                f"weight changed, saved in {self.run}; try a lower learning rate or --precision fp32"
            ) from error

    def _log(self, seen: int, bar: Progress) -> None:
        values = {f"train/{key}": value for key, value in self.logs.take().items()}
        rates = {
            f"rate/{name}": optimiser.param_groups[0]["lr"] for name, (optimiser, _) in self.recipe.optimisers.items()
        }
        if self.log:
            self.log.metrics(seen, {**values, **rates, "samples_per_second": bar.rate})
        bar.advance(0, f"loss {values['train/loss']:.4g}")

    def _look(self, seen: int) -> None:
        """Validate and draw a preview with the averaged weights, on the main process."""
        if self.log and self._due("validate_every", seen):
            values = self.recipe.validate(self.average.modules)
            if values:
                self.log.metrics(seen, {f"validation/{key}": value for key, value in values.items()})
        if self.log and self._due("preview_every", seen):
            picture = self.recipe.preview(self.average.modules)
            if picture is not None:
                self.log.picture(seen, picture)

    def _save(self, seen: int) -> None:
        logs = self.logs.state()
        if distributed.is_main():
            save_checkpoint(
                self.run,
                self.recipe,
                self.average,
                logs,
                seen=seen,
                total=self.total,
                keep=self.config.keep_checkpoints,
            )
        distributed.barrier()
        self.saved = checkpoint_folder(self.run, seen)

    def _due(self, name: str, seen: int) -> bool:
        """Return whether the step that ends at ``seen`` crossed a multiple of the interval, or was the last."""
        interval = self.every[name]
        return seen // interval > (seen - self.config.batch_size) // interval or seen >= self.total


def _comparable(config: TrainerConfig) -> dict[str, Any]:
    """Return the settings that must not change when a run is resumed."""
    kept = ("batch_size", "seed", "ema")
    return {key: value for key, value in to_dict(replace(config, out="")).items() if key in kept}


def _completed(stored: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return a run's settings, those that did not exist when they were written at their defaults."""
    if stored["recipe"]["kind"] != recipe.kind:
        return dict(stored)
    trainer = {**stored["trainer"], "ema": to_dict(from_dict(EMAConfig, stored["trainer"]["ema"], where="ema"))}
    return {**stored, "recipe": recipe.completed(stored["recipe"]), "trainer": trainer}


def _differences(stored: Any, wanted: Any, path: str = "") -> str:
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        parts = [_differences(stored.get(k), wanted.get(k), f"{path}.{k}".lstrip(".")) for k in {**stored, **wanted}]
        return ", ".join(part for part in parts if part)
    return "" if stored == wanted else f"{path}: {stored!r} then, {wanted!r} now"[:200]
