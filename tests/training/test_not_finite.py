"""A loss or gradient that is not finite stops the run before anything has changed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calotype.artifact import latest_checkpoint
from calotype.training.recipe import Recipe
from calotype.training.trainer import Trainer, TrainingError
from calotype.utils.files import read_json
from tiny import Wrapped, settings, tensor_files

MakeRecipe = Callable[..., Recipe]
BAD = 24


class AtBatch(Wrapped):
    """Calls ``meddle(batch)`` on the batch at sample 24."""

    def __init__(self, source: Any, meddle: Callable[[Any], Any]) -> None:
        super().__init__(source)
        self.meddle = meddle

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> Any:
        batch = super().batch(start, count, rows)
        return self.meddle(batch) if start == BAD else batch


def poisoned(batch: Any) -> Any:
    if hasattr(batch, "moments"):
        return replace(batch, moments=replace(batch.moments, mean=with_nan(batch.moments.mean)))
    return replace(batch, images=with_nan(batch.images))


def with_nan(values: Tensor) -> Tensor:
    values = values.clone()
    values[1, 0, 2, 2] = torch.nan
    return values


def gradient_of(module: str) -> Callable[[Recipe, Any], Any]:
    """Makes the next gradient of a module's last parameter infinite."""

    def arm(recipe: Recipe, batch: Any) -> Any:
        parameter = list({**recipe.averaged, **recipe.auxiliary}[module].parameters())[-1]
        parameter.register_hook(lambda gradient: torch.full_like(gradient, torch.inf))
        return batch

    return arm


def discriminator_loss(recipe: Recipe, batch: Any) -> Any:
    true = recipe.loss.discriminator_loss

    def false(images: Tensor, reconstructions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, logits = true(images, reconstructions)
        return loss * torch.nan, logits

    recipe.loss.discriminator_loss = false
    return batch


FAULTS = {
    "autoencoder data": ("autoencoder", lambda recipe, batch: poisoned(batch), "the autoencoder's loss"),
    "autoencoder gradient": ("autoencoder", gradient_of("autoencoder"), "the gradient of the autoencoder"),
    "discriminator gradient": ("autoencoder", gradient_of("discriminator"), "the gradient of the discriminator"),
    "discriminator loss": ("autoencoder", discriminator_loss, "the discriminator's loss"),
    "diffusion data": ("diffusion", lambda recipe, batch: poisoned(batch), "the loss"),
    "diffusion gradient": ("diffusion", gradient_of("conditioner"), "the gradient of the network"),
}


def weights_and_optimisers(recipe: Recipe) -> dict[str, Tensor]:
    modules: dict[str, nn.Module] = {**recipe.averaged, **recipe.auxiliary}
    found = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for name, (optimiser, _) in recipe.optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            found |= {f"{name}.{index}.{key}": value for key, value in state.items()}
    return {key: value.clone() for key, value in found.items()}


@pytest.fixture(scope="module")
def clean(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The tensor files of a run's checkpoint at sample 24, of each kind."""
    files = {}
    for kind in ("autoencoder", "diffusion"):
        run, recipe = tmp_path_factory.mktemp("clean"), make_recipe(kind)
        Trainer(settings(run, checkpoint_every=BAD)).fit(recipe, recipe.train)
        files[kind] = dict(tensor_files(run / "checkpoints" / f"{BAD:010d}"))
    return files


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_changes(
    fault: str, clean: dict[str, dict[str, bytes]], make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    kind, meddle, what = FAULTS[fault]
    recipe, before = make_recipe(kind), {}

    def at_batch(batch: Any) -> Any:
        before.update(weights_and_optimisers(recipe))
        return meddle(recipe, batch)

    with pytest.raises(TrainingError, match=f"^{what} is not finite at {BAD} images .*saved in"):
        Trainer(settings(tmp_path / "run", checkpoint_every=1000)).fit(recipe, AtBatch(recipe.train, at_batch))

    after = weights_and_optimisers(recipe)
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert read_json(checkpoint / "training.json")["samples_seen"] == BAD

    assert dict(tensor_files(checkpoint)) == clean[kind]


def test_the_message_names_the_images(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("autoencoder")
    indices = recipe.train.batch(BAD, 4).indices.tolist()
    with pytest.raises(TrainingError) as error:
        Trainer(settings(tmp_path / "run")).fit(recipe, AtBatch(recipe.train, poisoned))
    assert f"indices {indices}" in str(error.value)
    assert "\n" not in str(error.value)
