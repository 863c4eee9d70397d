"""Where training begins: how long a run is, whether it goes on from somewhere, and what it needs to start."""

import functools
import logging
import time
from pathlib import Path
from typing import Any

import torch

from calotype.artifact import write_config
from calotype.training.checkpoint import load_checkpoint
from calotype.training.ema import MovingAverage
from calotype.training.ema_snapshots import TRACKS, remove_later_snapshots, snapshot_cost
from calotype.training.guard import Guard
from calotype.training.interrupt import stop_request
from calotype.training.logs import StepLogs
from calotype.training.loop import Loop, TrainingError
from calotype.training.optimiser import NonFiniteError
from calotype.training.recipe import Recipe, Source
from calotype.training.session import Session, start_session
from calotype.training.settings import TrainerConfig, comparable, completed, differences
from calotype.training.timing import seconds_per_step
from calotype.utils import distributed
from calotype.utils.errors import UserError
from calotype.utils.files import read_json
from calotype.utils.progress import clock

log = logging.getLogger("calotype")


class Trainer:
    """Runs a recipe over a source until the samples are seen, the user stops it, or it goes wrong too often.

    The same call on the same folder resumes: the result equals that of a run that was never stopped.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self.config, self.run = config, Path(config.out)

    def fit(self, recipe: Recipe, source: Source) -> Path:
        """Train, or go on training, and return the folder of the last checkpoint. Joins the group that torchrun set up.

        Raises:
            UserError: the folder belongs to another run, or the batch does not divide over the processes.
            Interrupted: the run was asked to stop; it is saved.
            TrainingError: losses or gradients were not finite, or training diverged, more often than
                ``interventions``; nothing of a step that is not finite is ever applied, and all is saved.
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
        average = MovingAverage(recipe.averaged, self.config.ema, tracks=TRACKS if self.config.ema_snapshots else ())
        if self.config.ema_snapshots:
            log.info(snapshot_cost(self.run, average, self.config.ema_snapshots))
        seen, logs, health = load_checkpoint(self.run, recipe, average)
        guard = Guard(
            recipe,
            average,
            batch_size=self.config.batch_size,
            total=total,
            limit=self.config.interventions,
            seen=seen,
            undone=functools.partial(remove_later_snapshots, self.run),
        )
        if health is not None:
            guard.load(*health)
        if seen:
            log.info(f"resuming {self.run} at {seen} of {total} {recipe.unit}")
        with stop_request() as stop:
            loop = Loop(self.config, recipe, source, session, average, guard, total, StepLogs(logs))
            try:
                return loop.until_done(seen, stop)
            finally:
                loop.close()

    def _total_samples(self, recipe: Recipe, source: Source, session: Session) -> int:
        """Return the length of the run: from its config.json, or decided now and written there."""
        frozen = self.run / "config.json"
        wanted: dict[str, Any] = {"recipe": recipe.recipe_config(), "trainer": comparable(self.config)}
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
        stored = completed(read_json(frozen)["config"], recipe)
        if changed := differences({key: stored.get(key) for key in wanted}, wanted):
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
