from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.training import regularisers
from calotype.training.autoencoder_recipe import AutoencoderRecipe, AutoencoderRecipeConfig
from calotype.training.codebook import CodebookConfig
from calotype.training.draws import Draws
from calotype.training.regularisers import (
    DecoderNoiseConfig,
    EquivarianceConfig,
    Transformation,
    add_noise,
    draw_transformation,
)
from calotype.training.session import start_session
from tiny import BATCH, autoencoder_recipe, loader, quantised_recipe

ALWAYS = EquivarianceConfig(probability=1.0)


def draws(seen: int = 0, count: int = 6, rows: slice = slice(None)) -> Draws:
    return Draws(5, seen, count, rows)


def many(
    config: EquivarianceConfig | None, size: tuple[int, int] = (128, 192), factor: int = 4
) -> list[Transformation]:
    return [draw_transformation(config, draws(seen), size, factor) for seen in range(0, 2400, 6)]


def images(height: int = 16, width: int = 24) -> Tensor:
    return torch.randn(6, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_an_equivariant_decoder_has_no_error_and_another_has() -> None:
    """Latents that are the pixels, and latents that are the pixels minus a ramp: both reconstruct what is not moved."""
    picture = images(36, 36)
    ramp = torch.linspace(-1, 1, 36, dtype=torch.float64)[:, None] * torch.linspace(1, 2, 36, dtype=torch.float64)
    moves = {each for each in many(ALWAYS, (36, 36), factor=1) if each != Transformation((36, 36), 0)}
    assert len(moves) > 8
    for move in moves:
        size = move(picture).shape[2]
        assert torch.equal(move(picture), move(picture, 1)), "the decoder that does nothing"
        assert (move(picture - ramp) + ramp[:size, :size] - move(picture)).abs().mean() > 0.01, "the one that adds"


def test_images_of_blocks_are_transformed_as_their_latents() -> None:
    flat = images(4, 6)
    for turns in range(4):
        transform = Transformation((4, 6), turns)
        picture = transform(F.interpolate(flat, scale_factor=4), 4)
        torch.testing.assert_close(F.interpolate(transform(flat), scale_factor=4), picture)
    smaller = Transformation((3, 5), 1)
    assert smaller(flat).shape == (6, 3, 5, 3)
    assert smaller(F.interpolate(flat, scale_factor=4), 4).shape == (6, 3, 20, 12)
    smooth = torch.linspace(0, 1, 96, dtype=torch.float64).expand(1, 1, 64, 96)
    half = Transformation((8, 12), 0)
    torch.testing.assert_close(F.avg_pool2d(half(smooth, 4), 4), half(F.avg_pool2d(smooth, 4)), atol=0.01, rtol=0)


def test_nothing_happens_where_nothing_is_asked_for() -> None:
    for config in (None, EquivarianceConfig(probability=0.0)):
        assert set(many(config)) == {Transformation((32, 48), 0)}
    picture = images()
    assert Transformation((4, 6), 0)(picture, 4) is picture


def test_a_transformation_comes_with_its_probability_in_its_bounds() -> None:
    found = many(EquivarianceConfig(probability=0.7, scales=(0.5, 0.9), quarter_turns=(1, 2)))
    changed = [each for each in found if each != Transformation((32, 48), 0)]
    assert len(changed) / len(found) == pytest.approx(0.7, abs=0.07)
    heights, widths = zip(*[each.size for each in changed], strict=True)
    assert (min(heights), max(heights)) == (16, 29)
    assert (min(widths), max(widths)) == (24, 43)
    assert {each.quarter_turns for each in changed} == {1, 2}


def test_images_stay_large_enough_to_be_judged() -> None:
    assert min(min(each.size) for each in many(ALWAYS, (64, 64))) == 8, "8 latents are 32 pixels"
    assert {each.size for each in many(ALWAYS, (16, 16))} == {(4, 4)}
    assert {each.quarter_turns for each in many(ALWAYS, (16, 16))} == {0, 1, 2, 3}


def test_what_is_drawn_depends_on_the_position_in_the_run_alone() -> None:
    assert many(ALWAYS) == many(ALWAYS)
    assert len(set(many(ALWAYS))) > 20
    first, second = draws(rows=slice(0, 3)), draws(rows=slice(3, 6))
    assert draw_transformation(ALWAYS, first, (128, 128), 4) == draw_transformation(ALWAYS, second, (128, 128), 4)


def test_noise_is_measured_in_the_latents_own_units() -> None:
    latents = images(40, 40) * torch.tensor([1.0, 10.0, 0.1])[:, None, None] + 5
    added = torch.cat(
        [add_noise(latents, DecoderNoiseConfig(tau=0.3), draws(seen)) - latents for seen in range(0, 600, 6)]
    )
    relative = added.std((2, 3)) / torch.tensor([1.0, 10.0, 0.1])
    torch.testing.assert_close(relative[:, 0], relative[:, 1], rtol=0.1, atol=0)
    assert relative.square().mean().sqrt().item() == pytest.approx(0.3, rel=0.1)
    assert relative.min() < 0.02, "its strength is a different one for each image, often small"
    assert added.mean().abs() < 0.02


def test_noise_comes_with_its_probability() -> None:
    config = DecoderNoiseConfig(tau=0.3, probability=0.25)
    changed = [(add_noise(images(), config, draws(seen)) != images()).any((1, 2, 3)) for seen in range(0, 600, 6)]
    assert torch.cat(changed).double().mean().item() == pytest.approx(0.25, abs=0.06)
    for none in (None, DecoderNoiseConfig(tau=0.0), DecoderNoiseConfig(probability=0.0)):
        assert torch.equal(add_noise(images(), none, draws()), images())


def test_latents_cannot_escape_the_noise_by_growing() -> None:
    latents = images().requires_grad_()
    (gradient,) = torch.autograd.grad(add_noise(latents, DecoderNoiseConfig(), draws()).sum(), latents)
    assert torch.equal(gradient, torch.ones_like(latents))


def test_two_processes_add_the_noise_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config, whole = DecoderNoiseConfig(), images()
    alone = add_noise(whole, config, draws())
    moments = iter([whole.mean((0, 2, 3)), whole.square().mean((0, 2, 3))] * 2)
    monkeypatch.setattr(regularisers.distributed, "average", lambda _: next(moments))
    for rows in (slice(0, 2), slice(2, 6)):
        torch.testing.assert_close(add_noise(whole[rows], config, draws(rows=rows)), alone[rows])


def judged(
    config: AutoencoderRecipeConfig, monkeypatch: pytest.MonkeyPatch
) -> tuple[AutoencoderRecipe, Tensor, Tensor]:
    """A recipe, and the images and reconstructions that its loss compares in the first step."""
    torch.manual_seed(0)
    recipe, seen = AutoencoderRecipe(config, loader()), []
    recipe.start(start_session("cpu", "fp32"), BATCH)
    recipe.begin(10**6)
    judge = recipe.loss.generator_step_gradients
    monkeypatch.setattr(
        recipe.loss, "generator_step_gradients", lambda *args, **more: seen.extend(args[:2]) or judge(*args, **more)
    )
    recipe.step(recipe.train.batch(0, BATCH), Draws(0, 0, BATCH, slice(None)))
    return recipe, seen[0], seen[1].detach()


CONFIGS = {
    "posterior": autoencoder_recipe().config,
    "codes": quantised_recipe(codebook=CodebookConfig(initial="random", restart_every=0)).config,
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_transformed_latents_are_compared_with_transformed_images(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(regularisers, "SMALLEST", 1)
    turn = EquivarianceConfig(probability=1.0, quarter_turns=(1,), scales=(0.5, 0.5))
    config = replace(CONFIGS[kind], optimiser=replace(CONFIGS[kind].optimiser, learning_rate=1e-30))
    _, images, _ = judged(config, monkeypatch)
    recipe, targets, reconstructions = judged(replace(config, equivariance=turn), monkeypatch)
    assert torch.equal(targets, F.interpolate(images, (8, 8), mode="bilinear", antialias=True).rot90(1, (2, 3)))
    draws = Draws(0, 0, BATCH, slice(None))
    noise = recipe.latent_training.noise(images, draws)
    posterior = recipe.model.encode(images)
    z = posterior.mode() if noise is None else posterior.sample(noise)
    turned = F.interpolate(z, (4, 4), mode="bilinear", antialias=True).rot90(1, (2, 3))
    torch.testing.assert_close(reconstructions, recipe.model.decode(turned).detach(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_decoder_sees_noisy_latents(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    config = CONFIGS[kind]
    _, images, clean = judged(config, monkeypatch)
    _, same, noisy = judged(replace(config, decoder_noise=DecoderNoiseConfig(tau=1.0)), monkeypatch)
    assert torch.equal(images, same)
    changed = (noisy - clean).abs().mean((1, 2, 3))
    assert (changed > 0).all()
    assert len(changed.unique()) == BATCH
    _, _, none = judged(replace(config, decoder_noise=DecoderNoiseConfig(tau=1.0, probability=0.0)), monkeypatch)
    assert torch.equal(none, clean)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (EquivarianceConfig, {"probability": 1.5}),
        (EquivarianceConfig, {"scales": (0.0, 1.0)}),
        (EquivarianceConfig, {"scales": (0.5, 0.4)}),
        (EquivarianceConfig, {"scales": (0.5, 2.0)}),
        (EquivarianceConfig, {"quarter_turns": ()}),
        (DecoderNoiseConfig, {"tau": -1.0}),
        (DecoderNoiseConfig, {"probability": -0.1}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(kind: Any, change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=name):
        kind(**change)
