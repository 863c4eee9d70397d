"""The rungs of recipe_ladder.py: each is another one with one change."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calotype.diffusion import (
    EDM,
    Flow,
    HuberLoss,
    ImportanceTimes,
    LogitNormalTimes,
    LogNormalTimes,
    MinSNRWeighting,
    ZeroTerminalSNR,
)
from calotype.presets.diffusion import LDM2022, SMALL, Method
from calotype.training.ema import PowerFunctionEMA

SHAPE = replace(SMALL, channels=64, text_channels=64, text_layers=1)
TOP = "logit-normal times"


@dataclass(frozen=True)
class Rung:
    """A change, and what it is a change of."""

    name: str
    of: str
    change: Callable[[Method], Method]


def objective(**changes: Any) -> Callable[[Method], Method]:
    return lambda method: replace(method, objective=replace(method.objective, **changes))


def optimiser(**changes: Any) -> Callable[[Method], Method]:
    return lambda method: replace(method, optimiser=replace(method.optimiser, **changes))


def edm(method: Method) -> Method:
    return replace(objective(prediction="v", times=LogNormalTimes())(method), schedule=EDM())


STEADY = optimiser(betas=(0.9, 0.95), weight_decay=0.0, warmup_samples=1_600, decay_from=0.6, clip=1.0)
CLIMB = (
    Rung("learning rate 1.5e-3", "ldm2022", optimiser(learning_rate=1.5e-3)),
    Rung("warm-up, decay, clipping", "learning rate 1.5e-3", STEADY),
    Rung("power-function EMA", "warm-up, decay, clipping", lambda method: replace(method, ema=PowerFunctionEMA())),
    Rung("batch 32", "power-function EMA", lambda method: replace(method, batch_size=32)),
    Rung("v prediction", "batch 32", objective(prediction="v")),
    Rung("flow", "v prediction", lambda m: replace(objective(prediction="flow")(m), schedule=Flow())),
    Rung(TOP, "flow", objective(times=LogitNormalTimes())),
)
ALSO_TRIED = (
    Rung("velocity direction", TOP, objective(direction_weight=1.0)),
    Rung("min-SNR weighting", TOP, objective(weighting=MinSNRWeighting())),
    Rung("EDM, log-normal times", TOP, edm),
    Rung("Huber loss, c 0.1", TOP, objective(loss=HuberLoss(c=0.1))),
    Rung("learning rate 3e-3", TOP, optimiser(learning_rate=3e-3)),
    Rung("times by importance", "flow", objective(times=ImportanceTimes(bins=20, history=5))),
    Rung(
        "zero terminal SNR",
        "v prediction",
        lambda method: replace(method, schedule=ZeroTerminalSNR(of=method.schedule)),  # type: ignore[arg-type]
    ),
    Rung("batch 16", TOP, lambda method: replace(method, batch_size=16)),
    Rung("batch 8", TOP, lambda method: replace(method, batch_size=8)),
    Rung("batch 16, rate 1e-3", "batch 16", optimiser(learning_rate=1e-3)),
    Rung("offset noise 0.1", TOP, lambda method: replace(method, offset_noise=0.1)),
    Rung("input perturbation 0.1", TOP, lambda method: replace(method, input_perturbation=0.1)),
)
RUNGS = {rung.name: rung for rung in (Rung("ldm2022", "", lambda method: method), *CLIMB, *ALSO_TRIED)}


def folder_of(runs: Path, name: str) -> Path:
    return runs / name.replace(" ", "_").replace(",", "")


def method_of(name: str) -> Method:
    rung = RUNGS[name]
    return rung.change(method_of(rung.of) if rung.of else LDM2022)
