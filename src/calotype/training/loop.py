"""The one training loop: step by step, with averages, looks at its health, logs, previews and checkpoints."""

import logging
import math
from pathlib import Path
from typing import Any

import torch

from calotype.training.checkpoint import checkpoint_folder, save_checkpoint
from calotype.training.draws import Draws
from calotype.training.ema import MovingAverage
from calotype.training.ema_snapshots import save_snapshot, snapshot_file
from calotype.training.guard import Event, GaveUp, Guard
from calotype.training.interrupt import Interrupted
from calotype.training.logs import RunLog, StepLogs
from calotype.training.optimiser import NonFiniteError
from calotype.training.recipe import Recipe, Source
from calotype.training.session import Session
from calotype.training.settings import TrainerConfig
from calotype.utils import distributed
from calotype.utils.files import remove_litter
from calotype.utils.progress import Progress, progress
from calotype.utils.seeds import seed_of

log = logging.getLogger("calotype")


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what happened and what is saved."""


class Loop:
    """The state of one call of ``Trainer.fit``."""

    def __init__(
        self,
        config: TrainerConfig,
        recipe: Recipe,
        source: Source,
        session: Session,
        average: MovingAverage,
        guard: Guard,
        total: int,
        logs: StepLogs,
    ) -> None:
        self.config, self.run, self.recipe, self.source = config, Path(config.out), recipe, source
        self.average, self.guard, self.total, self.logs = average, guard, total, logs
        self.rows = session.rows(config.batch_size)
        self.saved: Path | None = None
        self.log: RunLog | None = None
        share = {"log_every": 200, "validate_every": 12, "preview_every": 4, "checkpoint_every": 4}
        self.every = {
            name: getattr(config, name) or max(config.batch_size, total // parts) for name, parts in share.items()
        }
        if config.ema_snapshots:
            self.every["ema_snapshots"] = max(config.batch_size, math.ceil(total / config.ema_snapshots))

    def until_done(self, seen: int, stop: Any) -> Path:
        """Train from ``seen`` samples to the end and return the last checkpoint.

        Raises:
            Interrupted: ``stop`` was set; the run is saved.
            TrainingError: the run went wrong and could not be put right; what is good of it is saved.
        """
        size = self.config.batch_size
        if distributed.is_main():
            remove_litter(self.run)
            remove_litter(checkpoint_folder(self.run, seen).parent)
            remove_litter(snapshot_file(self.run, seen).parent)
            self.log = RunLog(self.run, seen=seen)
        if seen == 0:
            self._report(0, *self.guard.before_first_step())
        with progress(self.run.name, self.total, done=seen, unit=self.recipe.unit) as bar:
            while seen < self.total:
                if distributed.any_rank(bool(stop)):
                    self._save(seen)
                    raise Interrupted(
                        f"stopped at {seen} of {self.total} {self.recipe.unit}, all saved in {self.run}; "
                        "run the same command again to go on",
                        stop.exit_code,
                    )
                self._advance(seen)
                seen += size
                if self._due("log_every", seen):
                    self._log(seen, bar)
                self._look(seen)
                if self.log and self.config.ema_snapshots and self._due("ema_snapshots", seen):
                    save_snapshot(self.run, self.average, seen)
                if self._due("checkpoint_every", seen):
                    self._save(seen)
                bar.advance(size)
        if self.saved is None:
            self._save(seen)
        assert self.saved is not None
        return self.saved

    def close(self) -> None:
        """Close the log."""
        if self.log:
            self.log.close()

    def _advance(self, seen: int) -> None:
        """Take the step that begins at ``seen`` samples, and whatever the guard finds to do about it."""
        size = self.config.batch_size
        batch = self.source.batch(seen, size, self.rows)
        if seen + size < self.total:
            self.source.prefetch(seen + size, size, self.rows)
        torch.manual_seed(seed_of(self.config.seed, "dropout", seen, distributed.rank()))
        for optimiser, settings in self.recipe.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = settings.rate(seen, self.total) * self.guard.rate_factor
        try:
            logs = self.recipe.step(batch, Draws(self.config.seed, seen, size, self.rows))
        except NonFiniteError as error:
            images = f"indices {batch.indices[:8].tolist()} ..."
            try:
                return self._report(seen + size, self.guard.after_failure(error, seen + size, images))
            except GaveUp as end:
                self._save(seen)
                advice = "try a lower learning rate or --precision fp32"
                raise TrainingError(f"{end}, saved in {self.run}; {advice}") from error
        self.logs.add(logs)
        self.average.update((seen + size) // size)
        try:
            self._report(seen + size, *self.guard.after_step(seen + size, logs))
        except GaveUp as end:
            self._save(seen + size)
            raise TrainingError(f"{end}; saved in {self.run}") from end

    def _report(self, seen: int, *events: Event) -> None:
        for event in events:
            if self.log:
                log.warning(event.message)
                self.log.event(seen, event.rule, event.message)

    def _log(self, seen: int, bar: Progress) -> None:
        values = {f"train/{key}": value for key, value in self.logs.take().items()}
        rates = {
            f"rate/{name}": optimiser.param_groups[0]["lr"] for name, (optimiser, _) in self.recipe.optimisers.items()
        }
        if self.log:
            self.log.metrics(seen, {**values, **rates, "samples_per_second": bar.rate})
        if "train/loss" in values:
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
        logs, health = self.logs.state(), self.guard.state()
        if distributed.is_main():
            save_checkpoint(
                self.run,
                self.recipe,
                self.average,
                logs,
                health=health,
                kept=self.guard.kept if self.guard.kept_at != seen < self.total else {},
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
