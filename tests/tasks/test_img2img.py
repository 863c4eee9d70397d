import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from hypothesis import settings as property_settings

import calotype as ct
from calotype.diffusion import DDIM, Flow, Linear, NoiseSource, solve
from calotype.pipeline import LatentDiffusion
from calotype.tasks.img2img import add_noise, img2img, start_node, wholly_known
from calotype.training.trainer import Trainer
from calotype.utils.errors import UserError
from tiny import autoencoder_artifact, diffusion_recipe, loader, settings

CAPTIONS = ["a red wave", "a blue wave", ""]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    folder = tmp_path_factory.mktemp("img2img")
    recipe = diffusion_recipe(autoencoder_artifact(folder / "autoencoder").folder)
    return ct.load(Trainer(settings(folder / "run", samples=8)).fit(recipe, recipe.train))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return loader().at(range(3)).images


@pytest.mark.parametrize("schedule", [Flow(), Linear()])
def test_strength_one_is_sampling_from_pure_noise(model, images, schedule):
    """On a table too, where the first node still holds some of the image."""
    parts = {"autoencoder": model.first_stage, "conditioner": model.conditioner, "network": model.network}
    other = LatentDiffusion(**parts, schedule=schedule, prediction="v")
    options = {"seeds": [5, 6, 7], "steps": 4, "caption": CAPTIONS}
    assert torch.equal(img2img(other, images, strength=1.0, **options), other.sample(**options))


def test_less_strength_leaves_more_of_the_image(model, images):
    options = {"seeds": [5, 6, 7], "steps": 10, "guidance": ct.CFG(1.0), "caption": CAPTIONS}
    same = model.decode(model.encode(images))
    distances = [(img2img(model, images, strength=s, **options) - same).abs().mean() for s in (0.1, 0.5, 1.0)]
    assert distances[0] < distances[1] < distances[2]


def test_an_image_depends_on_its_own_seed_and_fields(model, images):
    options = {"strength": 0.5, "steps": 4, "solver": DDIM(eta=1.0)}
    together = img2img(model, images, seeds=[5, 6, 7], caption=CAPTIONS, **options)
    in_pairs = img2img(model, images, seeds=[5, 6, 7], caption=CAPTIONS, batch_size=2, **options)
    alone = img2img(model, images[1:2], seeds=[6], caption=CAPTIONS[1:2], **options)
    torch.testing.assert_close(in_pairs, together, rtol=0, atol=1e-4)
    torch.testing.assert_close(alone, together[1:2], rtol=0, atol=1e-4)


@given(st.integers(1, 1000), st.floats(0, 1, exclude_min=True), st.floats(0, 1))
@property_settings(deadline=None, derandomize=True)
def test_every_strength_has_a_node(steps, strength, less):
    """The nearest; at least one step is left, all at 1, and less strength never leaves more of them."""
    grid = Flow().grid(steps)
    left = steps - start_node(grid, strength)
    assert 1 <= left <= steps
    assert abs(left - strength * steps) <= 0.5 or left == 1
    assert start_node(grid, 1.0) == 0
    assert less * strength == 0 or start_node(grid, less * strength) >= start_node(grid, strength)


def test_there_and_back_with_an_exact_denoiser(gaussian_flow):
    """Latents of a single value, with noise, come back from any node, but not from one step more noise than is told."""
    latents, noise, grid = torch.full((1, 2, 4, 4), 0.7), NoiseSource([1]).initial((2, 4, 4)), Flow().grid(10)
    for start in range(1, 10):
        *_, exact = solve(gaussian_flow, add_noise(latents, noise, grid, start), grid.tail(start), DDIM())
        torch.testing.assert_close(exact.x, latents, rtol=0, atol=1e-6)
        noisier = add_noise(latents, noise, grid, start, "node_before")
        torch.testing.assert_close(noisier, add_noise(latents, noise, grid, start - 1))


@pytest.fixture
def gaussian_flow():
    def denoise(x, t):
        alpha, sigma = Flow().marginal(t, x)
        return ct.Estimate(torch.full_like(x, 0.7), (x - alpha * 0.7) / sigma, alpha, sigma)

    return denoise


def test_what_is_known_stays_to_the_last_bit_and_what_is_not_depends_on_the_seed(model, images):
    known = torch.zeros(3, 1, 16, 16)
    known[:, :, :, :6], known[1, :, :6] = 1, 1
    first, second = (
        img2img(model, images, strength=1.0, known=known, seeds=seeds, steps=3, batch_size=2, solver=DDIM(eta=1.0))
        for seeds in ([1, 2, 3], [4, 5, 6])
    )
    where = known.expand_as(images) == 1
    assert torch.equal(first[where], images[where])
    assert torch.equal(second[where], images[where])
    assert (first - second)[~where].abs().mean() > 0.01


def test_all_known_is_the_image_and_none_known_is_sampling(model, images):
    options = {"seeds": [5, 6, 7], "steps": 3, "caption": CAPTIONS}
    everything, nothing = torch.ones(3, 1, 16, 16), torch.zeros(3, 1, 16, 16)
    assert torch.equal(img2img(model, images, strength=1.0, known=everything, **options), images)
    assert torch.equal(img2img(model, images, strength=1.0, known=nothing, **options), model.sample(**options))


def test_latents_are_known_where_all_of_their_pixels_are():
    known = torch.ones(1, 1, 8, 8)
    known[..., 3, 4] = 0
    assert wholly_known(known, 4).tolist() == [[[[1, 0], [1, 1]]]]


MISTAKES = {
    "strength 0": ({"strength": 0.0}, "strength must be above 0"),
    "strength 2": ({"strength": 2.0}, "strength must be above 0"),
    "no node before the first": ({"strength": 1.0, "noise_at": "node_before"}, "strength: the first node"),
    "seeds": ({"seeds": [1]}, "seeds: give a list with one value per image, 3 of them"),
    "fields": ({"caption": ["a"]}, "caption: give a list with one value per image"),
    "known": ({"known": torch.ones(1, 1, 16, 16)}, "known: give a list with one value per image"),
    "text": ({"caption": "red"}, "caption: give a list"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_one_line(model, images, mistake):
    options, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message):
        img2img(model, images, **{"strength": 0.5, "seeds": [1, 2, 3], "steps": 3, **options})
    with pytest.raises(UserError, match="size must be a multiple of 4"):
        img2img(model, images[:, :, :, :10], strength=0.5, seeds=[1, 2, 3])
