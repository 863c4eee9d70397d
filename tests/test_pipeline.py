from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import calotype as ct
from calotype.artifact import read_artifact
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder, load_latent_diffusion
from calotype.training.trainer import Trainer
from calotype.utils.errors import UserError
from calotype.utils.tensors import load_tensors, save_tensors
from tiny import SIZE, autoencoder_artifact, diffusion_recipe, loader, settings

STEPS = 3


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return autoencoder_artifact(tmp_path_factory.mktemp("autoencoder") / "artifact").folder


@pytest.fixture(scope="module")
def trained(autoencoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model with captions."""
    out = tmp_path_factory.mktemp("diffusion")
    recipe = diffusion_recipe(autoencoder)
    Trainer(settings(out, samples=24)).fit(recipe, recipe.train)
    return out


@pytest.fixture
def model(trained: Path) -> LatentDiffusion:
    return ct.load(trained)


@pytest.fixture
def unconditional(autoencoder: Path, tmp_path: Path) -> LatentDiffusion:
    recipe = diffusion_recipe(autoencoder, conditional=False)
    return ct.load(Trainer(settings(tmp_path, samples=4)).fit(recipe, recipe.train))


def draw(model: LatentDiffusion, seeds: list[int], **options: Any) -> torch.Tensor:
    return model.sample(seeds=seeds, **{"steps": STEPS, **options})


class Batches:
    """Counts the rows of every call of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.rows: list[int] = []
        module.register_forward_pre_hook(lambda _, inputs: self.rows.append(len(inputs[0])))


CAPTIONS = ["a red wave", "a blue wave", "a green wave", "", "a round wave"]


@pytest.mark.parametrize("solver", [None, ct.DDIM(eta=1.0)])
def test_an_image_depends_on_its_seed_alone(model: LatentDiffusion, solver: Any) -> None:
    seeds = [3, 1, 4, 15, 9]
    together = draw(model, seeds, caption=CAPTIONS, solver=solver)
    assert together.shape == (5, 3, SIZE, SIZE)
    assert together.abs().max() <= 1
    in_pairs = draw(model, seeds, caption=CAPTIONS, solver=solver, batch_size=2)
    torch.testing.assert_close(in_pairs, together, rtol=0, atol=1e-4)
    alone = draw(model, [15], caption=[""], solver=solver)
    torch.testing.assert_close(alone, together[3:4], rtol=0, atol=1e-4)
    other = draw(model, [16], caption=[""], solver=solver)
    assert (other - alone).abs().max() > 0.01


def test_noise_may_be_given_in_place_of_seeds(model: LatentDiffusion) -> None:
    plain, noise = draw(model, [4, 5, 6], caption=CAPTIONS[:3]), model.noise([4, 5, 6])
    assert torch.equal(model.sample(noise=noise, steps=STEPS, caption=CAPTIONS[:3]), plain)
    others = draw(model, [7, 8], noise=noise[1:], caption=CAPTIONS[1:3], batch_size=1)
    torch.testing.assert_close(others, plain[1:], rtol=0, atol=1e-4)
    assert model.sample(noise=model.noise([1], size=24), steps=STEPS).shape == (1, 3, 24, 24)
    with pytest.raises(UserError, match="noise: give a list with one value per seed, 2 of them"):
        draw(model, [1, 2], noise=noise)


def test_who_watches_may_stop(model: LatentDiffusion) -> None:
    """What there is of the batch at hand is decoded from the images that are expected; later batches are not drawn."""
    seen: list[ct.State] = []

    def watch(state: ct.State) -> bool:
        seen.append(state)
        return len(seen) == STEPS + 2

    images = draw(model, [4, 5, 6, 7, 8], batch_size=2, watch=watch)
    assert len(seen) == STEPS + 2
    assert torch.equal(images[:2], draw(model, [4, 5]))
    assert torch.equal(images[2:], model.decode(seen[-1].x0))
    assert len(images) == 4
    states = ct.solve(model.denoise(2), model.noise([6, 7]), model.schedule.grid(STEPS), ct.DPMSolver())
    assert torch.equal([next(states) for _ in range(2)][-1].x0, seen[-1].x0)


def test_loading_twice_gives_the_same_images(trained: Path, tmp_path: Path) -> None:
    first, second = (draw(ct.load(trained), [0, 1], caption=CAPTIONS[:2]) for _ in range(2))
    assert torch.equal(first, second)


def test_the_model_in_training_is_the_one_that_is_loaded(autoencoder: Path, tmp_path: Path) -> None:
    recipe = diffusion_recipe(autoencoder)
    run = Trainer(settings(tmp_path, samples=12)).fit(recipe, recipe.train)
    own = recipe._pipeline({name: module.eval() for name, module in recipe.averaged.items()})
    loaded = ct.load(run, weights="raw")
    assert torch.equal(draw(own, [0, 1], caption=CAPTIONS[:2]), draw(loaded, [0, 1], caption=CAPTIONS[:2]))


def test_averaged_or_raw_weights(trained: Path) -> None:
    averaged, raw = ct.load(trained), ct.load(trained, weights="raw")
    folder = read_artifact(trained).folder
    for model, name in ((averaged, "network_ema"), (raw, "network")):
        stored = load_tensors(folder / f"{name}.safetensors")
        assert all(torch.equal(value, stored[key]) for key, value in model.network.state_dict().items())
    assert not torch.equal(averaged.network.out[2].weight, raw.network.out[2].weight)


def test_guidance_is_off_without_conditions(model: LatentDiffusion, unconditional: LatentDiffusion) -> None:
    calls = Batches(model.network)
    draw(model, [0, 1])
    assert calls.rows == [2] * STEPS
    draw(model, [0, 1], caption=CAPTIONS[:2])
    assert calls.rows[STEPS:] == [4] * STEPS, "with conditions it is on: both passes in one batch"
    calls = Batches(unconditional.network)
    assert draw(unconditional, [0, 1]).shape == (2, 3, SIZE, SIZE)
    assert calls.rows == [2] * STEPS


def test_guidance_of_one_is_the_condition_alone(model: LatentDiffusion) -> None:
    plain = draw(model, [0, 1], caption=CAPTIONS[:2], guidance=ct.CFG(1.0))
    guided = draw(model, [0, 1], caption=CAPTIONS[:2], guidance=ct.CFG(3.0))
    assert (plain - guided).abs().max() > 1e-4
    null = draw(model, [0, 1], caption=["", ""], guidance=ct.CFG(1.0))
    torch.testing.assert_close(draw(model, [0, 1]), null)


def test_every_image_may_have_a_scale_of_its_own_in_any_batch(model: LatentDiffusion) -> None:
    scales = (1.0, 4.0, 0.0)
    together = draw(model, [0, 1, 2], caption=CAPTIONS[:3], guidance=ct.CFG(scales), batch_size=2)
    for row, scale in enumerate(scales):
        alone = draw(model, [row], caption=CAPTIONS[row : row + 1], guidance=ct.CFG(scale))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-4)


def test_a_weaker_model_guides_what_has_no_condition(unconditional: LatentDiffusion, model: LatentDiffusion) -> None:
    plain = draw(unconditional, [0, 1])
    same = draw(unconditional, [0, 1], weak=unconditional, guidance=ct.CFG(3.0))
    torch.testing.assert_close(same, plain, rtol=0, atol=1e-4)
    assert (draw(unconditional, [0, 1], weak=model) - plain).abs().max() > 0.01
    calls = Batches(model.network)
    draw(unconditional, [0, 1], weak=model, guidance=ct.CFG(3.0, interval=(100.0, 200.0)))
    assert not calls.rows, "it is not asked outside the interval"
    for options in ({"guidance": ct.CFG(2.0, rescale=0.5)}, {"negative": {"caption": ["", ""]}}):
        with pytest.raises(UserError, match="leave negative and rescale out"):
            draw(unconditional, [0, 1], weak=model, **options)
    unconditional.schedule = ct.Linear()
    with pytest.raises(UserError, match="weak: it must have this model's autoencoder and noise schedule"):
        draw(unconditional, [0, 1], weak=model)


def test_guidance_leads_away_from_the_null_or_from_what_is_negative(model: LatentDiffusion) -> None:
    away = {"caption": ["", ""]}
    plain = draw(model, [0, 1], caption=CAPTIONS[:2])
    torch.testing.assert_close(draw(model, [0, 1], caption=CAPTIONS[:2], negative=away, batch_size=1), plain)
    other = draw(model, [0, 1], caption=CAPTIONS[:2], negative={"caption": CAPTIONS[1:3]})
    assert (other - plain).abs().max() > 1e-4
    same = draw(model, [0, 1], caption=CAPTIONS[:2], negative={"caption": CAPTIONS[:2]}, guidance=ct.CFG(7.0))
    torch.testing.assert_close(same, draw(model, [0, 1], caption=CAPTIONS[:2], guidance=ct.CFG(1.0)))
    with pytest.raises(UserError, match="caption: give a list"):
        draw(model, [0, 1], caption=CAPTIONS[:2], negative={"caption": ["one"]})


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"captoin": ["a", "b"]}, r"takes no 'captoin' .*Did you mean 'caption'"),
    "too few values": ({"caption": ["a"]}, "caption: give a list with one value per seed, 2 of them"),
    "a bare string": ({"caption": "ab"}, "caption: give a list with one value per seed, 2 of them"),
    "too many values for small batches": ({"caption": CAPTIONS[:3], "batch_size": 1}, "one value per seed, 2 of them"),
    "odd size": ({"size": 18}, r"size must be a multiple of 4, not 18"),
    "no size": ({"size": 0}, r"size must be a multiple of 4, not 0"),
    "odd height": ({"size": (6, 16)}, r"size must be a multiple of 4, not 16x6"),
    "odd width": ({"size": (16, 6)}, r"size must be a multiple of 4, not 6x16"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_one_line(mistake: str, model: LatentDiffusion) -> None:
    options, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message) as error:
        draw(model, [0, 1], **options)
    assert "\n" not in str(error.value)


def test_no_seeds(model: LatentDiffusion) -> None:
    with pytest.raises(UserError, match="seeds must name at least one image"):
        draw(model, [])


def test_another_size(model: LatentDiffusion) -> None:
    assert draw(model, [0], size=(8, 24)).shape == (1, 3, 8, 24)


def test_latents_there_and_back(model: LatentDiffusion) -> None:
    images = loader().at(range(12)).images
    latents = model.encode(images)
    assert latents.shape == (12, *model.latent_shape())
    assert latents.mean((0, 2, 3)).abs().max() < 0.1
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.1
    torch.testing.assert_close(model.decode(latents), model.first_stage.reconstruct(images), rtol=0, atol=1e-4)


def test_an_autoencoder_by_itself(autoencoder: Path) -> None:
    loaded = ct.load(autoencoder)
    assert isinstance(loaded, TrainedAutoencoder)
    assert loaded.size == SIZE
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.reconstruct(loader().at([0]).images).abs().max() <= 1


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in read_artifact(trained).folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def drop(state: dict[str, torch.Tensor]) -> None:
    del state["out.2.bias"]


def add(state: dict[str, torch.Tensor]) -> None:
    state["out.3.bias"] = torch.zeros(1)


def reshape(state: dict[str, torch.Tensor]) -> None:
    state["out.2.bias"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"missing \['out.2.bias'\], unexpected \[\]"),
        (add, r"unexpected \['out.3.bias'\]"),
        (reshape, r"other shape \['out.2.bias'\]"),
    ],
)
def test_weights_must_fit_exactly(change: Callable[[dict], None], message: str, copied: Path) -> None:
    path = copied / "network_ema.safetensors"
    state = load_tensors(path)
    change(state)
    save_tensors(path, state)
    with pytest.raises(UserError, match=f"do not fit the network: .*{message}"):
        ct.load(copied)


def test_another_kind(copied: Path) -> None:
    text = (copied / "config.json").read_text()
    (copied / "config.json").write_text(text.replace('"kind": "latent_diffusion"', '"kind": "recipe for soup"', 1))
    with pytest.raises(UserError, match="'recipe for soup', which this calotype does not know"):
        ct.load(copied)


def test_modules_are_for_inference(trained: Path) -> None:
    model = load_latent_diffusion(read_artifact(trained)).to("cpu")
    assert not any(module.training for module in model.modules)
    assert not any(parameter.requires_grad for module in model.modules for parameter in module.parameters())


def test_the_steps_are_spaced_as_asked(model: LatentDiffusion) -> None:
    usual = draw(model, [0], steps=4)
    assert torch.equal(draw(model, [0], steps=4, spacing=model.schedule.usual_spacing), usual)
    assert not torch.equal(draw(model, [0], steps=4, spacing="log_snr"), usual)
