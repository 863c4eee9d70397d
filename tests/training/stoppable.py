"""A run without end for test_interrupt.py, under the command line's own rules: ``python stoppable.py OUT``."""

import sys
from pathlib import Path

import torch

from calotype.cli.command import execute
from calotype.training.trainer import Trainer
from tiny import autoencoder_recipe, settings


def command(out: Path) -> None:
    recipe = autoencoder_recipe()
    Trainer(settings(out, samples=10**9, checkpoint_every=10**9, log_every=4)).fit(recipe, recipe.train)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(execute("train", command, ["--out", sys.argv[1]]))
