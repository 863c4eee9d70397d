"""What two processes do in test_ranks.py: ``python ranks.py OUT ENCODED`` in the environment that torchrun sets."""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from calotype.training import guard, health, timing
from calotype.training.draws import Draws
from calotype.training.interrupt import Interrupted
from calotype.training.recipe import Recipe
from calotype.training.trainer import Trainer, TrainingError
from calotype.utils import distributed
from calotype.utils.files import digest
from tiny import LEARNED, Wrapped, autoencoder_recipe, diffusion_recipe, quantised_recipe, regularised_recipe, settings

GAN_KINDS = ("autoencoder", "quantised", "regularised")
KINDS = (*GAN_KINDS, "diffusion", "log_variance")


class OnTheSecond(Wrapped):
    """Does something to the batch at a sample on the second process alone."""

    def __init__(self, source: Any, meddle: Callable[[Any], Any], at: int = 8) -> None:
        super().__init__(source)
        self.meddle, self.at = meddle, at

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> Any:
        batch = super().batch(start, count, rows)
        return self.meddle(batch) if start == self.at and distributed.rank() == 1 else batch


def precise(kind: str, encoded: Path) -> Recipe:
    """The recipe of a kind in float64, without dropout."""
    if kind in GAN_KINDS:
        made = {"quantised": quantised_recipe, "regularised": regularised_recipe}
        recipe = made[kind]() if kind in made else autoencoder_recipe(kl_weight=1e-2)
        for module in (recipe.model, recipe.loss, *recipe.latent_training.auxiliary.values()):
            module.double()
        return recipe
    recipe = diffusion_recipe(encoded, dropout=0.0, **(LEARNED if kind == "log_variance" else {}))
    for module in (*recipe.averaged.values(), recipe.first_stage.model):
        module.double()
    return recipe


def not_a_number(batch: Any) -> Any:
    return replace(batch, images=torch.full_like(batch.images, torch.nan))


def ask_to_stop(batch: Any) -> Any:
    signal.raise_signal(signal.SIGTERM)
    return batch


def worse_on_the_second(recipe: Recipe) -> Recipe:
    """The recipe, whose second process sees a loss that comes apart at sample 20; the first sees nothing."""
    true = recipe.step

    def step(batch: Any, draws: Draws) -> dict[str, torch.Tensor]:
        loss = 5.0 if draws.seen == 20 and distributed.rank() == 1 else 1.0
        return true(batch, draws) | {"reconstruction": torch.tensor(loss, dtype=torch.float64)}

    recipe.step = step
    return recipe


def put_right(out: Path, encoded: Path) -> str:
    """A run with a NaN and a divergence, each on the second process alone; returns a digest of its weights."""
    health.LEVEL_STEPS, health.LEVEL_SAMPLES, guard.KEEP_EVERY = 2, 1, 1
    recipe = worse_on_the_second(precise("autoencoder", encoded))
    Trainer(settings(out)).fit(recipe, OnTheSecond(recipe.train, not_a_number, at=12))
    return digest(repr([value.tolist() for value in recipe.model.state_dict().values()]))


def main(out: Path, encoded: Path) -> None:
    told: dict[str, Any] = {"rank": distributed.rank(), "processes": distributed.world_size()}
    for kind in KINDS:
        recipe = precise(kind, encoded)
        Trainer(settings(out / kind, samples=24)).fit(recipe, recipe.train)
    for name, meddle in {"stop": ask_to_stop, "nan": not_a_number}.items():
        recipe = autoencoder_recipe()
        try:
            Trainer(settings(out / name, interventions=0)).fit(recipe, OnTheSecond(recipe.train, meddle))
        except (Interrupted, TrainingError) as error:
            told[name] = f"{type(error).__name__} {getattr(error, 'exit_code', '')} {error}"
    told["put right"] = put_right(out / "put right", encoded)
    timing.STEPS = 4
    recipe = autoencoder_recipe()
    Trainer(settings(out / "minutes", minutes=0.001)).fit(recipe, recipe.train)
    (out / f"{distributed.rank()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.process_group():
        main(Path(sys.argv[1]), Path(sys.argv[2]))
