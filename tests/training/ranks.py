"""What two processes do in test_ranks.py: ``python ranks.py OUT ENCODED`` in the environment that torchrun sets."""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from calotype.training import timing
from calotype.training.interrupt import Interrupted
from calotype.training.recipe import Recipe
from calotype.training.trainer import Trainer, TrainingError
from calotype.utils import distributed
from tiny import LEARNED, Wrapped, autoencoder_recipe, diffusion_recipe, quantised_recipe, regularised_recipe, settings

GAN_KINDS = ("autoencoder", "quantised", "regularised")
KINDS = (*GAN_KINDS, "diffusion", "log_variance")


class OnTheSecond(Wrapped):
    """Does something to the batch at sample 8 on the second process alone."""

    def __init__(self, source: Any, meddle: Callable[[Any], Any]) -> None:
        super().__init__(source)
        self.meddle = meddle

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> Any:
        batch = super().batch(start, count, rows)
        return self.meddle(batch) if start == 8 and distributed.rank() == 1 else batch


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


def main(out: Path, encoded: Path) -> None:
    told: dict[str, Any] = {"rank": distributed.rank(), "processes": distributed.world_size()}
    for kind in KINDS:
        recipe = precise(kind, encoded)
        Trainer(settings(out / kind, samples=24)).fit(recipe, recipe.train)
    for name, meddle in {"stop": ask_to_stop, "nan": not_a_number}.items():
        recipe = autoencoder_recipe()
        try:
            Trainer(settings(out / name)).fit(recipe, OnTheSecond(recipe.train, meddle))
        except (Interrupted, TrainingError) as error:
            told[name] = f"{type(error).__name__} {getattr(error, 'exit_code', '')} {error}"
    timing.STEPS = 4
    recipe = autoencoder_recipe()
    Trainer(settings(out / "minutes", minutes=0.001)).fit(recipe, recipe.train)
    (out / f"{distributed.rank()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.process_group():
        main(Path(sys.argv[1]), Path(sys.argv[2]))
