"""Learning rates that go up and down in cycles: the reference's multipliers."""

import bisect
import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class Cycle(Config):
    """A linear rise from ``start`` to ``peak`` over ``warm_up`` samples, then a fall to ``end`` at ``length`` samples.

    Samples are counted from the beginning of the cycle. The reference counts steps: times the batch size they are
    samples.
    """

    length: int
    warm_up: int = 0
    start: float = 0.0
    peak: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length must be at least 1, not {self.length}")
        if not 0 <= self.warm_up <= self.length:
            raise ValueError(f"warm_up must be between 0 and length {self.length}, not {self.warm_up}")


@dataclass(frozen=True, kw_only=True)
class _Cycles(Config, ABC):
    cycles: tuple[Cycle, ...]

    def __post_init__(self) -> None:
        if not self.cycles:
            raise ValueError("cycles must be one or more, not none")

    @abstractmethod
    def _fall(self, cycle: Cycle, seen: int) -> float:
        """Return the multiplier after the warm-up."""

    def multiplier(self, seen: int) -> float:
        """Return the factor of the learning rate after ``seen`` samples; beyond the last cycle it stays as it is there.

        The sample at which a cycle ends belongs to it, not to the next.
        """
        ends = list(itertools.accumulate(cycle.length for cycle in self.cycles))
        seen = min(seen, ends[-1])
        index = bisect.bisect_left(ends, seen)
        cycle, seen = self.cycles[index], seen - (ends[index] - self.cycles[index].length)
        if seen < cycle.warm_up:
            return (cycle.peak - cycle.start) / cycle.warm_up * seen + cycle.start
        return self._fall(cycle, seen)


@dataclass(frozen=True, kw_only=True)
class CosineCycles(_Cycles):
    """Falls along half a cosine: LambdaWarmUpCosineScheduler (one cycle) and LambdaWarmUpCosineScheduler2."""

    kind: Literal["cosine_cycles"] = "cosine_cycles"

    def _fall(self, cycle: Cycle, seen: int) -> float:
        done = (seen - cycle.warm_up) / max(cycle.length - cycle.warm_up, 1)
        return cycle.end + 0.5 * (cycle.peak - cycle.end) * (1 + math.cos(done * math.pi))


@dataclass(frozen=True, kw_only=True)
class LinearCycles(_Cycles):
    """Falls along a line.

    With ``fall_from="cycle_start"`` that line has its ``peak`` at the beginning of the cycle, so that the rate jumps
    down at the end of the warm-up: LambdaLinearScheduler.
    """

    fall_from: Literal["warm_up", "cycle_start"] = "warm_up"
    kind: Literal["linear_cycles"] = "linear_cycles"

    def _fall(self, cycle: Cycle, seen: int) -> float:
        span = cycle.length - cycle.warm_up if self.fall_from == "warm_up" else cycle.length
        return cycle.end + (cycle.peak - cycle.end) * (cycle.length - seen) / max(span, 1)


LearningRateSchedule = CosineCycles | LinearCycles
