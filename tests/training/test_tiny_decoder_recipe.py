"""A tiny decoder learns to decode as its autoencoder does."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import calotype as ct
from calotype.artifact import Artifact, read_artifact, write_artifact
from calotype.evaluation.reconstruction import psnr
from calotype.losses import SqueezeNetPerceptualConfig, VGG16PerceptualConfig
from calotype.models.tiny_decoder import TinyDecoder, TinyDecoderConfig
from calotype.pipeline import load_autoencoder
from calotype.training.draws import Draws
from calotype.training.session import start_session
from calotype.training.tiny_decoder_recipe import TinyDecoderRecipe, TinyDecoderRecipeConfig
from calotype.training.trainer import Trainer
from calotype.utils.config import to_dict
from tiny import BATCH, SIZE, STEADY, loader, metrics, settings, tiny_decoder_recipe


@pytest.fixture
def started(encoded: Path) -> TinyDecoderRecipe:
    recipe = tiny_decoder_recipe(encoded)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    return recipe


@pytest.fixture
def pixels(tmp_path: Path) -> Artifact:
    """An autoencoder that passes pixels through: what a decoder can learn in a second."""
    config = {
        "autoencoder": {"kind": "identity"},
        "pixel_format": to_dict(ct.PixelFormat()),
        "size": SIZE,
        "latent": {"shift": [-0.5, 0.0, 0.5], "scale": [1.0, 2.0, 0.5]},
    }
    write_artifact(tmp_path / "ae", kind="autoencoder", config=config, components={"autoencoder": {}}, provenance={})
    return read_artifact(tmp_path / "ae")


def test_it_learns_and_is_loaded_as_it_was_measured(pixels: Artifact, tmp_path: Path) -> None:
    decoder = TinyDecoderConfig(latent_channels=3, widths=(16,), blocks=1, depth_to_space=1)
    config = TinyDecoderRecipeConfig(decoder=decoder, optimiser=replace(STEADY, learning_rate=1e-2))
    torch.manual_seed(0)
    recipe = TinyDecoderRecipe(config, pixels, loader(12), loader(4, first=12))
    recipe.start(start_session("cpu", "fp32"), 8)
    before = recipe.validate(recipe.averaged)["psnr_to_autoencoder"]
    few = {"validate_every": 10**6, "log_every": 10**6, "checkpoint_every": 10**6}
    run = Trainer(settings(tmp_path / "run", samples=800, batch_size=8, **few)).fit(recipe, recipe.train)
    (score,) = [line for line in metrics(tmp_path / "run") if "validation/psnr" in line]
    assert score["validation/psnr_to_autoencoder"] > before + 12

    tiny, autoencoder = ct.load(run), load_autoencoder(pixels).model
    assert isinstance(tiny, TinyDecoder)
    assert not any(value.requires_grad for value in tiny.parameters())
    images = loader(4, first=12).at(range(4)).images
    decoded = tiny(autoencoder.normalise(images)).clamp(-1, 1)
    assert psnr(images, decoded).mean().item() == pytest.approx(score["validation/psnr"], abs=1e-3)
    raw = ct.load(run, weights="raw")
    assert not torch.equal(raw.layers[0].weight, tiny.layers[0].weight)


def test_what_is_measured(started: TinyDecoderRecipe) -> None:
    images = loader(4, first=12).at(range(4)).images
    z = started.teacher.encode(images).mode()
    target = started.teacher.decode(z).clamp(-1, 1)
    decoded = started.decoder(started.teacher.normalise(z)).clamp(-1, 1)
    found = started.validate(started.averaged)
    assert found["psnr_to_autoencoder"] == pytest.approx(psnr(target, decoded).mean().item(), abs=1e-4)
    assert found["psnr"] == pytest.approx(psnr(images, decoded).mean().item(), abs=1e-4)


def test_the_autoencoder_stays_as_it_is(started: TinyDecoderRecipe) -> None:
    before = copy.deepcopy(started.teacher.state_dict())
    learner = copy.deepcopy(started.decoder.state_dict())
    started.step(started.train.batch(0, BATCH), Draws(0, 0, BATCH, slice(None)))
    assert all(torch.equal(value, before[key]) for key, value in started.teacher.state_dict().items())
    assert not all(torch.equal(value, learner[key]) for key, value in started.decoder.state_dict().items())


def test_the_step_is_the_gradient_of_the_written_loss(started: TinyDecoderRecipe) -> None:
    """Mean |tiny(normalise(z)) - clamp(decode(z))| over a posterior sample z, plus the weighted perceptual distance."""
    recipe = started
    recipe.config = replace(recipe.config, perceptual=VGG16PerceptualConfig(), perceptual_weight=0.5)
    recipe.perceptual = Squares()
    nn.init.constant_(recipe.teacher.quant_conv.bias[4:], 0.0)
    batch, draws = recipe.train.batch(0, BATCH), Draws(3, 20, BATCH, slice(None))
    posterior = recipe.teacher.encode(batch.images)
    z = posterior.mean + posterior.std * draws.normal("posterior", 4, SIZE // 2, SIZE // 2)
    target = recipe.teacher.decode(z).clamp(-1, 1)
    difference = recipe.decoder(recipe.teacher.normalise(z)) - target
    loss = difference.abs().mean() + 0.5 * difference.square().mean()
    expected = torch.autograd.grad(loss, list(recipe.decoder.parameters()))

    taken: list[torch.Tensor] = []
    recipe.optimiser.step = lambda: taken.extend(p.grad.clone() for p in recipe.decoder.parameters())
    logs = recipe.step(batch, draws)
    norm = torch.stack([gradient.norm() for gradient in expected]).norm()
    assert logs["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert logs["gradient_norm"].item() == pytest.approx(norm.item(), rel=1e-4)
    for ours, theirs in zip(taken, expected, strict=True):
        torch.testing.assert_close(ours, theirs * min(1.0, 1 / norm), rtol=1e-3, atol=1e-6)


class Squares(nn.Module):
    def forward(self, inputs: torch.Tensor, reconstructions: torch.Tensor) -> torch.Tensor:
        return (inputs - reconstructions).square().mean((1, 2, 3), keepdim=True)


def test_the_preview_has_three_rows(started: TinyDecoderRecipe) -> None:
    picture = started.preview(started.averaged)
    assert picture.shape == (3 * (SIZE + 2) + 2, 4 * (SIZE + 2) + 2, 3)
    rows = [picture[2 + row * (SIZE + 2) :][:SIZE] for row in range(3)]
    assert all((one != other).any() for one, other in ((rows[0], rows[1]), (rows[1], rows[2])))


def test_without_held_out_images_nothing_is_measured(started: TinyDecoderRecipe) -> None:
    assert started.validate(started.averaged).keys() == {"psnr_to_autoencoder", "psnr"}
    started.held_out = None
    assert started.validate(started.averaged) == {}
    assert started.preview(started.averaged) is not None


def test_the_artifact_tells_which_latents_it_reads(started: TinyDecoderRecipe, encoded: Path) -> None:
    config = started.artifact_config(started.averaged, complete=True)
    theirs = read_artifact(encoded).config
    assert config["latent"] == {name: theirs["latent"][name] for name in ("shift", "scale")}
    assert config["size"] == SIZE


def test_a_decoder_of_other_latents_is_refused(encoded: Path) -> None:
    for shape in ({"widths": (8, 8)}, {"widths": (8,), "latent_channels": 3}):
        config = TinyDecoderRecipeConfig(decoder=TinyDecoderConfig(**shape))
        with pytest.raises(ValueError, match="decoder must have the factor and the latent channels"):
            TinyDecoderRecipe(config, read_artifact(encoded), loader())


def test_a_perceptual_weight_needs_a_network_and_the_other_way_round() -> None:
    with pytest.raises(ValueError, match="perceptual_weight must not be negative"):
        TinyDecoderRecipeConfig(perceptual_weight=-1.0)
    for options in ({"perceptual_weight": 0.1}, {"perceptual": SqueezeNetPerceptualConfig()}):
        with pytest.raises(ValueError, match="give both or neither"):
            TinyDecoderRecipeConfig(**options)
