"""A step whose loss or gradient is not finite changes nothing: it is left out, or ends the run, as asked."""

from collections.abc import Callable, Container
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
from calotype.utils.tensors import load_tensors
from tiny import Wrapped, autoencoder_recipe, metrics, settings, tensor_files

MakeRecipe = Callable[..., Recipe]
BAD = 24


class AtBatch(Wrapped):
    """Calls ``meddle(batch)`` on the batches at some samples."""

    def __init__(self, source: Any, meddle: Callable[[Any], Any], starts: Container[int] = (BAD,)) -> None:
        super().__init__(source)
        self.meddle, self.starts = meddle, starts

    def batch(self, start: int, count: int, rows: slice = slice(None)) -> Any:
        batch = super().batch(start, count, rows)
        return self.meddle(batch) if start in self.starts else batch


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

        def once(gradient: Tensor) -> Tensor:
            hook.remove()
            return torch.full_like(gradient, torch.inf)

        hook = parameter.register_hook(once)
        return batch

    return arm


def discriminator_loss(recipe: Recipe, batch: Any) -> Any:
    true = recipe.loss.discriminator_loss

    def false(images: Tensor, reconstructions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        recipe.loss.discriminator_loss = true
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
def test_a_run_that_ends_has_changed_nothing(
    fault: str, clean: dict[str, dict[str, bytes]], make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    kind, meddle, what = FAULTS[fault]
    recipe, before = make_recipe(kind), {}

    def at_batch(batch: Any) -> Any:
        before.update(weights_and_optimisers(recipe))
        return meddle(recipe, batch)

    with pytest.raises(TrainingError, match=f"^{what} is not finite at {BAD} images .*saved in"):
        Trainer(settings(tmp_path / "run", checkpoint_every=1000, interventions=0)).fit(
            recipe, AtBatch(recipe.train, at_batch)
        )

    after = weights_and_optimisers(recipe)
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert read_json(checkpoint / "training.json")["samples_seen"] == BAD
    files = dict(tensor_files(checkpoint))
    assert files == {name: clean[kind][name] for name in files}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_is_left_out_has_changed_nothing(fault: str, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """Weights, averages and optimisers after the step are those before it, and the run goes on to its end."""
    kind, meddle, what = FAULTS[fault]
    recipe, seen = make_recipe(kind), []

    def at_batch(batch: Any) -> Any:
        seen.append(weights_and_optimisers(recipe))
        return meddle(recipe, batch) if len(seen) == 1 else batch

    source = AtBatch(recipe.train, at_batch, starts=(BAD, BAD + 4))
    run = Trainer(settings(tmp_path, checkpoint_every=4, keep_checkpoints=9)).fit(recipe, source)
    before, after = seen
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []
    name = next(iter(recipe.averaged))
    ema = [tmp_path / "checkpoints" / f"{at:010d}" / f"{name}_ema.safetensors" for at in (BAD, BAD + 4)]
    assert ema[0].read_bytes() == ema[1].read_bytes()
    assert run.name == f"{40:010d}"
    (said,) = [line for line in metrics(tmp_path) if line.get("kind") == "health"]
    assert said["message"].startswith(f"{what} is not finite at {BAD} images (indices ")
    assert said["message"].endswith("left this step out, nothing has changed (intervention 1 of 5)")
    assert said["samples"] == BAD + 4


def test_two_in_a_row_go_back_and_slow_down(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("autoencoder")
    source = AtBatch(recipe.train, poisoned, starts=(24, 28))
    Trainer(settings(tmp_path, log_every=4)).fit(recipe, source)
    messages = [line["message"] for line in metrics(tmp_path) if line.get("kind") == "health"]
    assert "left this step out" in messages[0]
    assert messages[1].endswith("went back to what it was at 0 images, learning rates now x0.5 (intervention 2 of 5)")
    rates = {line["samples"]: line["rate/autoencoder"] for line in metrics(tmp_path) if "rate/autoencoder" in line}
    assert rates[24] == 2e-3
    assert rates[36] == recipe.config.optimiser.rate(32, 40) / 2


def test_running_statistics_that_were_spoilt(tmp_path: Path) -> None:
    """A forward pass has moved them before the loss is known: only going back can mend that."""
    recipe = autoencoder_recipe(normalisation="batch", disc_from=0.0)
    checkpoint = Trainer(settings(tmp_path)).fit(recipe, AtBatch(recipe.train, poisoned))
    (said,) = [line["message"] for line in metrics(tmp_path) if line.get("kind") == "health"]
    assert "went back to what it was at 0 images" in said
    assert "x0.5" not in said, "one bad batch is no reason to slow down"
    tensors = load_tensors(checkpoint / "training.safetensors")
    assert all(torch.isfinite(value).all() for key, value in tensors.items() if key.startswith("module/"))


def test_there_is_a_limit(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("autoencoder")
    source = AtBatch(recipe.train, poisoned, starts=(8, 16, 24))
    with pytest.raises(TrainingError, match=r"not finite at 24 images .* after 2 interventions, saved in") as error:
        Trainer(settings(tmp_path, interventions=2)).fit(recipe, source)
    assert "\n" not in str(error.value)
    assert latest_checkpoint(tmp_path).name == f"{24:010d}"
    recipe = make_recipe("autoencoder", weights=1)
    run = Trainer(settings(tmp_path, interventions=3)).fit(recipe, AtBatch(recipe.train, poisoned, (24,)))
    assert run.name == f"{40:010d}", "with another one allowed it goes on"


def test_the_message_names_the_images(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("autoencoder")
    indices = recipe.train.batch(BAD, 4).indices.tolist()
    with pytest.raises(TrainingError) as error:
        Trainer(settings(tmp_path / "run", interventions=0)).fit(recipe, AtBatch(recipe.train, poisoned))
    assert f"indices {indices}" in str(error.value)
    assert "\n" not in str(error.value)
