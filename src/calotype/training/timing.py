"""How long a training step takes here, measured before the run begins."""

import time
from collections.abc import Iterable

import torch

from calotype.training.draws import Draws
from calotype.training.recipe import Recipe, Source
from calotype.training.state import restore_training_state, training_state
from calotype.utils import distributed

STEPS, SECONDS, WARM_UP = 12, 5.0, 2
LATE = 2**60


def seconds_per_step(
    recipe: Recipe, source: Source, *, seed: int, batch_size: int, rows: slice, threads: Iterable[int]
) -> tuple[float, int]:
    """Return the time of a step and which of the numbers of CPU ``threads`` is fastest; leave all else as it was.

    The time is averaged over the phases of a run by their shares. It is the lower quartile of a dozen steps: a machine
    that was disturbed for a moment should not cut the run short.

    Raises:
        NonFiniteError: a loss is not finite from the start.
    """
    before = training_state(recipe)
    recipe.begin(LATE)

    def measure(seen: int, count: int) -> float:
        torch.set_num_threads(count)
        times: list[float] = []
        while len(times) < WARM_UP + 1 or (len(times) < STEPS and distributed.any_rank(sum(times) < SECONDS)):
            started = time.perf_counter()
            batch = source.batch(len(times) * batch_size, batch_size, rows)
            recipe.step(batch, Draws(seed, seen, batch_size, rows))
            times.append(time.perf_counter() - started)
        return float(distributed.average(torch.tensor(times[WARM_UP:]).quantile(0.25)))

    early, best = min((measure(0, count), count) for count in threads)
    late = early if recipe.late_from >= 1 else measure(LATE, best)
    restore_training_state(recipe, before)
    return recipe.late_from * early + (1 - recipe.late_from) * late, best
