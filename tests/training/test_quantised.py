"""A vector-quantised autoencoder through the whole chain: trained, loaded, and its latents trained on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import calotype as ct
from calotype.artifact import read_artifact
from calotype.data.latents import LatentLoader
from calotype.evaluation.reconstruction import psnr
from calotype.models.quantisers import FSQConfig, GumbelQuantizeConfig, QuantiserConfig, VectorQuantizer2Config
from calotype.models.vq_model import VQModel
from calotype.pipeline import TrainedAutoencoder
from calotype.training.autoencoder_recipe import AutoencoderRecipe, AutoencoderRecipeConfig
from calotype.training.codebook import CodebookConfig
from calotype.training.diffusion_recipe import DiffusionRecipe
from calotype.training.draws import Draws
from calotype.training.encode import encode_latents, latent_statistics
from calotype.training.optimiser import OptimiserConfig
from calotype.training.session import start_session
from calotype.training.trainer import Trainer
from calotype.utils.config import from_dict, to_dict
from calotype.utils.tensors import load_tensors
from tiny import (
    BATCH,
    QUANTISED,
    SIZE,
    autoencoder_recipe,
    diffusion_recipe,
    loader,
    metrics,
    quantised_recipe,
    settings,
)

FEW = {"log_every": 10**6, "checkpoint_every": 10**6}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on eight images: without a discriminator, with 64 codes."""
    optimiser = OptimiserConfig(learning_rate=3e-3, warmup_samples=40)
    shape = replace(QUANTISED, quantiser=VectorQuantizer2Config(codes=64))
    config = replace(
        quantised_recipe(codebook=CodebookConfig(initial="random", restart_every=80)).config,
        autoencoder=shape,
        disc_from=1.0,
        optimiser=optimiser,
    )
    torch.manual_seed(0)
    recipe = AutoencoderRecipe(config, loader(8), loader(8))
    out = tmp_path_factory.mktemp("quantised")
    Trainer(settings(out, samples=1600, batch_size=8, validate_every=1600, **FEW)).fit(recipe, loader(8))
    return out


@pytest.fixture(scope="module")
def autoencoder(trained: Path) -> TrainedAutoencoder:
    return ct.load(trained)


def test_it_learns_eight_images_and_is_loaded(trained: Path, autoencoder: TrainedAutoencoder) -> None:
    (validated,) = [line for line in metrics(trained) if "validation/psnr" in line]
    assert validated["validation/psnr"] > 25
    assert isinstance(autoencoder.model, VQModel)
    images = loader(8).at(range(8)).images
    found = psnr(autoencoder.reconstruct(images), images).mean().item()
    assert found == pytest.approx(validated["validation/psnr"], abs=0.01)


def test_what_is_logged(trained: Path, autoencoder: TrainedAutoencoder) -> None:
    """Everything the reference logs, under plain names; usage over the whole held-out set in validation."""
    (step,) = [line for line in metrics(trained) if "train/loss" in line]
    usage = {f"train/{name}" for name in ("codebook_loss", "perplexity", "codes_used", "codes_restarted", "perceptual")}
    assert usage <= step.keys()
    assert "train/kl" not in step
    _, quantised = autoencoder.model(loader(8).at(range(8)).images)
    (validated,) = [line for line in metrics(trained) if "validation/codes_used" in line]
    assert validated["validation/codes_used"] == len(quantised.indices.unique())
    perplexity = torch.distributions.Categorical(torch.bincount(quantised.indices.flatten()).float()).perplexity()
    assert validated["validation/perplexity"] == pytest.approx(perplexity.item(), rel=1e-4)


def test_restarts_put_the_codebook_to_use(trained: Path) -> None:
    (validated,) = [line for line in metrics(trained) if "validation/codes_used" in line]
    assert validated["validation/codes_used"] > 32


def test_latents_are_points_normalised_and_decoded_through_codes(
    autoencoder: TrainedAutoencoder, tmp_path: Path
) -> None:
    model, images = autoencoder.model, loader(8)
    moments = encode_latents(model, images, tmp_path, "key", start_session("cpu", "fp32"), quiet=True)
    assert moments.logvar is None
    assert load_tensors(tmp_path / "key" / "00000000.safetensors").keys() == {"mean"}
    normal = model.normalise(moments.mean)
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(normal.std((0, 2, 3), correction=0), torch.ones(4), atol=1e-3, rtol=0)
    shift, scale = latent_statistics(model, images)
    torch.testing.assert_close(model.latent_shift, torch.tensor(shift), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(model.latent_scale, torch.tensor(scale), atol=1e-3, rtol=1e-3)
    decoded = model.decode(model.denormalise(normal))
    torch.testing.assert_close(decoded, model(images.at(range(8)).images)[0], rtol=1e-3, atol=1e-3)


def test_diffusion_trains_on_its_latents_and_samples(trained: Path, encoded: Path, tmp_path: Path) -> None:
    artifact = read_artifact(trained, kind="autoencoder")
    images = loader(8)
    model = ct.load(trained).model
    moments = encode_latents(model, images, tmp_path / "latents", "key", start_session("cpu", "fp32"), quiet=True)
    latents = LatentLoader(moments, images.images.records)
    recipe = DiffusionRecipe(diffusion_recipe(encoded, conditional=False).config, artifact, latents, latents)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    x0 = recipe.first_stage.model.normalise(moments.mean)
    torch.testing.assert_close(recipe._latents(latents.at(range(8)), torch.randn(x0.shape)), x0)
    Trainer(settings(tmp_path / "run", samples=16)).fit(recipe, latents)
    pipeline = ct.load(tmp_path / "run")
    assert isinstance(pipeline.autoencoder, VQModel)
    assert pipeline.sample(seeds=range(2), steps=2).shape == (2, 3, SIZE, SIZE)


def test_the_step_is_the_gradient_of_the_written_loss() -> None:
    """nll + codebook_weight * codebook loss + d_weight * generator loss, by autograd alone."""
    recipe = quantised_recipe(disc_from=0.5, codebook=CodebookConfig(initial="random"))
    recipe.start(start_session("cpu", "fp32"), BATCH)
    recipe.begin(40)
    batch = recipe.train.batch(0, BATCH)
    reconstructions, quantised = recipe.model(batch.images)
    nll = recipe.loss.nll_loss(recipe.loss.reconstruction_loss(batch.images, reconstructions))
    generator_loss = recipe.loss.generator_loss(reconstructions)
    ours, theirs = (
        torch.autograd.grad(part, recipe.model.last_layer, retain_graph=True)[0] for part in (nll, generator_loss)
    )
    weight = recipe.config.loss.disc_weight * ours.norm() / (theirs.norm() + 1e-4)
    total = nll + recipe.config.loss.codebook_weight * quantised.loss + weight * generator_loss
    expected = torch.autograd.grad(total, list(recipe.model.parameters()))

    taken: list[torch.Tensor] = []
    recipe.optimiser.step = lambda: taken.extend(p.grad.clone() for p in recipe.model.parameters())
    logs = recipe.step(batch, Draws(0, 20, BATCH, slice(None)))
    norm = torch.stack([gradient.norm() for gradient in expected]).norm()
    torch.testing.assert_close(logs["d_weight"], weight)
    torch.testing.assert_close(logs["codebook_loss"], quantised.loss.detach())
    for ours, theirs in zip(taken, expected, strict=True):
        torch.testing.assert_close(ours, theirs * min(1.0, 1 / norm), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("quantiser", [GumbelQuantizeConfig(codes=16), FSQConfig(levels=(5, 4, 3, 3))])
def test_other_quantisers_train(quantiser: QuantiserConfig) -> None:
    """The draws of the one are its own, the other has no loss; nothing moves the codes of either."""
    config = replace(quantised_recipe().config, autoencoder=replace(QUANTISED, quantiser=quantiser))
    torch.manual_seed(0)
    recipe = AutoencoderRecipe(config, loader(8), loader(8))
    recipe.start(start_session("cpu", "fp32"), BATCH)
    recipe.begin(40)
    assert recipe.auxiliary.keys() == {"discriminator"}
    before = {name: parameter.clone() for name, parameter in recipe.model.named_parameters()}
    logs = recipe.step(recipe.train.batch(0, BATCH), Draws(0, 36, BATCH, slice(None)))
    assert {"codebook_loss", "perplexity", "codes_used", "d_weight"} <= logs.keys()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in recipe.model.named_parameters())


def test_averaged_codes_have_no_optimiser() -> None:
    """They are where the averages of latents are, and not trained twice; a codebook with a remap is left alone."""
    recipe = quantised_recipe()
    recipe.start(start_session("cpu", "fp32"), BATCH)
    recipe.begin(10**6)
    codes, trained = recipe.model.quantize.codebook, recipe.optimiser.param_groups[0]["params"]
    assert {id(each) for each in recipe.model.parameters()} - {id(each) for each in trained} == {id(codes)}
    before = codes.clone()
    for step in range(3):
        recipe.step(recipe.train.batch(0, BATCH), Draws(0, BATCH * step, BATCH, slice(None)))
    assert codes.grad is None
    assert not torch.equal(codes, before)
    averages = recipe.latent_training.keeper.averages
    torch.testing.assert_close(codes, averages.sums / averages.counts[:, None], rtol=1e-2, atol=1e-4)

    remapped = replace(QUANTISED, quantiser=replace(QUANTISED.quantiser, remap=(0, 1, 2)))
    config = replace(recipe.config, autoencoder=remapped)
    assert AutoencoderRecipe(config, loader(8)).auxiliary.keys() == {"discriminator"}


def test_a_grid_too_fine_to_count_trains() -> None:
    shape = replace(QUANTISED, quantiser=FSQConfig(levels=(2**10,) * 4))
    recipe = AutoencoderRecipe(replace(quantised_recipe().config, autoencoder=shape), loader(8), loader(8))
    recipe.start(start_session("cpu", "fp32"), BATCH)
    recipe.begin(10**6)
    logs = recipe.step(recipe.train.batch(0, BATCH), Draws(0, 0, BATCH, slice(None)))
    assert "perplexity" not in logs
    assert recipe.validate(recipe.averaged).keys() == {"psnr", "ssim"}


def test_a_loss_fits_its_autoencoder() -> None:
    quantised, gaussian = quantised_recipe().config, autoencoder_recipe().config
    for config in (quantised, gaussian):
        assert from_dict(AutoencoderRecipeConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match="loss lpips_with_discriminator does not fit autoencoder vq_model"):
        replace(quantised, loss=gaussian.loss)
    with pytest.raises(ValueError, match="loss vq_lpips_with_discriminator does not fit autoencoder autoencoder_kl"):
        replace(gaussian, loss=quantised.loss)
