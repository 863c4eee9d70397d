"""What training does to a model: it learns a few images by heart."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import calotype as ct
from calotype.artifact import read_artifact
from calotype.diffusion.log_variance import LogVarianceConfig
from calotype.diffusion.objectives import Objective
from calotype.evaluation.reconstruction import psnr
from calotype.training.autoencoder_recipe import AutoencoderRecipe
from calotype.training.draws import Draws
from calotype.training.optimiser import OptimiserConfig
from calotype.training.recipe import Recipe
from calotype.training.session import start_session
from calotype.training.trainer import Trainer
from calotype.utils.tensors import load_tensors
from tiny import BATCH, SIZE, autoencoder_recipe, diffusion_recipe, loader, metrics, settings

MakeRecipe = Callable[..., Recipe]
FEW = {"log_every": 10**6, "checkpoint_every": 10**6}


def test_an_autoencoder_learns_eight_images(tmp_path: Path) -> None:
    optimiser = OptimiserConfig(learning_rate=6e-3, warmup_samples=40)
    config = replace(autoencoder_recipe().config, disc_from=1.0, optimiser=optimiser)
    torch.manual_seed(0)
    recipe = AutoencoderRecipe(config, loader(8), loader(8))
    images = loader(8).at(range(8)).images
    assert psnr(recipe.model(images)[0].detach(), images).mean() < 12
    run = Trainer(settings(tmp_path, samples=1200, batch_size=8, validate_every=1200, **FEW)).fit(recipe, loader(8))
    (score,) = [line["validation/psnr"] for line in metrics(tmp_path) if "validation/psnr" in line]
    assert score > 25
    assert psnr(ct.load(run).reconstruct(images), images).mean().item() == pytest.approx(score, abs=0.01)


def test_diffusion_learns_eight_latents(encoded: Path, tmp_path: Path) -> None:
    recipe = diffusion_recipe(encoded, dropout=0.0)
    recipe.held_out = recipe.train
    recipe.start(start_session("cpu", "fp32"), 12)
    before = recipe.validate({name: copy.deepcopy(module).eval() for name, module in recipe.averaged.items()})["loss"]
    Trainer(settings(tmp_path, samples=480, batch_size=12, validate_every=480, **FEW)).fit(recipe, recipe.train)
    (after,) = [line["validation/loss"] for line in metrics(tmp_path) if "validation/loss" in line]
    assert after < 0.8 * before


@pytest.fixture
def started() -> AutoencoderRecipe:
    recipe = autoencoder_recipe(disc_from=0.5, kl_weight=0.5)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    recipe.begin(40)
    return recipe


def take(recipe: Recipe, seen: int, **changes: Any) -> dict[str, torch.Tensor]:
    return recipe.step(recipe.train.batch(0, BATCH), Draws(0, seen, BATCH, slice(None)), **changes)


def test_the_discriminator_joins_at_its_share(started: AutoencoderRecipe) -> None:
    weight = started.loss.discriminator.main[0].weight
    before = weight.clone()
    assert "disc_loss" not in take(started, 16)
    assert torch.equal(weight, before)
    assert {"disc_loss", "d_weight", "logits_real", "logits_fake"} <= take(started, 20).keys()
    assert not torch.equal(weight, before)


def test_both_updates_judge_the_same_reconstructions(
    started: AutoencoderRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One forward pass: what the generator was scored on is what the discriminator is shown."""
    seen, forward = [], started.loss.discriminator.forward
    monkeypatch.setattr(started.loss.discriminator, "forward", lambda images: seen.append(images) or forward(images))
    calls, encode = [], started.model.encode
    monkeypatch.setattr(started.model, "encode", lambda images: calls.append(images) or encode(images))
    take(started, 20)
    generated, real, shown = seen
    assert torch.equal(generated, shown)
    assert torch.equal(real, calls[0])
    assert len(calls) == 1


def test_the_step_is_the_gradient_of_the_written_loss(started: AutoencoderRecipe) -> None:
    """nll + kl_weight * kl + d_weight * generator loss, by autograd alone."""
    recipe = started
    batch, draws = recipe.train.batch(0, BATCH), Draws(0, 20, BATCH, slice(None))
    reconstructions, parameters = recipe.model(batch.images, draws.normal("posterior", 4, SIZE // 2, SIZE // 2))
    nll = recipe.loss.nll_loss(recipe.loss.reconstruction_loss(batch.images, reconstructions))
    kl = ct.DiagonalGaussianDistribution(parameters).kl().mean() / batch.images[0].numel()
    generator_loss = recipe.loss.generator_loss(reconstructions)
    (ours,) = torch.autograd.grad(nll, recipe.model.last_layer, retain_graph=True)
    (theirs,) = torch.autograd.grad(generator_loss, recipe.model.last_layer, retain_graph=True)
    weight = recipe.config.loss.disc_weight * ours.norm() / (theirs.norm() + 1e-4)
    total = nll + recipe.config.loss.kl_weight * kl + weight.detach() * generator_loss
    expected = torch.autograd.grad(total, list(recipe.model.parameters()))

    taken: list[torch.Tensor] = []
    recipe.optimiser.step = lambda: taken.extend(p.grad.clone() for p in recipe.model.parameters())
    logs = take(recipe, 20)
    norm = torch.stack([gradient.norm() for gradient in expected]).norm()
    assert logs["gradient_norm"].item() == pytest.approx(norm.item(), rel=1e-4)
    assert logs["d_weight"].item() == pytest.approx(weight.item(), rel=1e-4)
    for ours, theirs in zip(taken, expected, strict=True):
        torch.testing.assert_close(ours, theirs * min(1.0, 1 / norm), rtol=1e-3, atol=1e-6)


def test_the_diffusion_loss_is_the_written_one(encoded: Path) -> None:
    """Mean square of output - (noise - x_0) at x_t = (1 - t) x_0 + t noise, every draw from its own stream."""
    recipe = diffusion_recipe(encoded, dropout=0.0)
    torch.nn.init.normal_(recipe.network.out[2].weight)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    batch, draws = recipe.train.batch(0, BATCH), Draws(3, 20, BATCH, slice(None))
    mean, logvar = batch.moments.mean, batch.moments.logvar
    raw = mean + (logvar / 2).exp() * draws.normal("posterior", *mean.shape[1:])
    shift, scale = (torch.tensor(recipe.artifact.config["latent"][name])[:, None, None] for name in ("shift", "scale"))
    x0, noise = (raw - shift) * scale, draws.normal("noise", *mean.shape[1:])
    t = draws.make("time", lambda count, generator: torch.rand(count, generator=generator, dtype=torch.float64)).float()
    x_t = torch.lerp(x0, noise, t[:, None, None, None])
    captions = recipe.conditioner.prepare_training(batch.fields, BATCH, draws.keys("augment"))
    slots = recipe.conditioner(captions, {"caption": draws.uniform("drop caption") < 0.2}).slots()
    expected = (recipe.network(x_t, 1000 * t, **slots) - (noise - x0)).square().mean()
    torch.testing.assert_close(recipe.step(batch, draws)["loss"], expected.detach())


def learned_from(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, torch.Tensor]:
    """What a step shows the network, and the noise that it is to learn."""
    recipe.start(start_session("cpu", "fp32"), BATCH)
    shown, forward = [], recipe.forward
    monkeypatch.setattr(recipe, "forward", lambda x, *rest: shown.append(x) or forward(x, *rest))
    noises, terms = [], Objective.terms
    monkeypatch.setattr(Objective, "terms", lambda self, *args: noises.append(args[2]) or terms(self, *args))
    recipe.step(recipe.train.batch(0, BATCH), Draws(3, 20, BATCH, slice(None)))
    return shown[0], noises[0]


def test_offset_noise_moves_whole_channels(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, offset = (
        learned_from(diffusion_recipe(encoded, dropout=0.0, offset_noise=strength), monkeypatch)
        for strength in (0.0, 0.5)
    )
    moved = (offset[1] - plain[1]).flatten(2)
    constants = Draws(3, 20, BATCH, slice(None)).normal("offset", 4, 1, 1).flatten(2)
    torch.testing.assert_close(moved, 0.5 * constants.expand_as(moved))
    assert not torch.equal(offset[0], plain[0])


def test_an_input_perturbation_is_not_to_be_learned(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, perturbed = (
        learned_from(diffusion_recipe(encoded, dropout=0.0, input_perturbation=strength), monkeypatch)
        for strength in (0.0, 0.2)
    )
    assert torch.equal(plain[1], perturbed[1])
    more = (perturbed[0] - plain[0]).flatten(1)
    noise = 0.2 * Draws(3, 20, BATCH, slice(None)).normal("perturbation", *plain[0].shape[1:]).flatten(1)
    share = more / noise  # sigma(t), one for each image
    torch.testing.assert_close(share, share[:, :1].expand_as(share), rtol=1e-2, atol=1e-2)
    assert 0 < share.median() < 1


@pytest.mark.parametrize("name", ["offset_noise", "input_perturbation"])
def test_noise_must_not_be_negative(encoded: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        diffusion_recipe(encoded, **{name: -0.1})


def test_times_by_importance_are_weighted_and_remembered(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("log_variance")
    run = Trainer(settings(tmp_path)).fit(recipe, recipe.train)
    probabilities = recipe.importance.probabilities()
    assert probabilities.max() > 1.2 * probabilities.min()
    stored = load_tensors(run / "training.safetensors")
    assert torch.equal(stored["module/importance/losses"], recipe.importance.losses)
    recipe.optimiser.step = lambda: None
    draws, batch = Draws(0, 40, BATCH, slice(None)), recipe.train.batch(40, BATCH)
    t = draws.make("time", lambda count, generator: recipe.importance.sample(count, generator, recipe.schedule))
    weights, told = recipe.importance.weights(t, recipe.schedule), []
    recipe.importance.record = lambda times, losses, schedule: told.extend([times, losses])
    logs = recipe.step(batch, draws)
    assert torch.equal(told[0], t)
    assert logs["loss"].item() == pytest.approx((told[1] * weights).mean().item(), rel=1e-5)


def test_a_log_variance_is_learned_kept_and_no_part_of_inference(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("log_variance")
    run = Trainer(settings(tmp_path, samples=80, validate_every=40)).fit(recipe, recipe.train)
    stored = read_artifact(run)
    raw, averaged = (stored.weights("log_variance", weights)["logvar"] for weights in ("raw", "ema"))
    assert torch.equal(raw, recipe.log_variance.logvar)
    assert not torch.equal(raw, averaged)
    assert len(raw) == 50
    assert raw.std() > 0
    line = [each for each in metrics(tmp_path) if "train/loss" in each][-1]
    assert {"train/loss_simple", "train/loss_vlb", "train/loss_gamma", "train/logvar"} <= line.keys()
    assert line["train/loss"] == pytest.approx(line["train/loss_gamma"] + 0.1 * line["train/loss_vlb"])
    (run / "log_variance.safetensors").unlink()
    (run / "log_variance_ema.safetensors").unlink()
    assert ct.load(run).sample(seeds=[0], steps=2).shape[0] == 1


def test_validation_takes_the_averaged_log_variance(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("log_variance")
    recipe.start(start_session("cpu", "fp32"), BATCH)
    averaged = {name: copy.deepcopy(module).eval() for name, module in recipe.averaged.items()}
    before = recipe.validate(averaged)
    torch.nn.init.constant_(averaged["log_variance"].logvar, 1.0)
    after = recipe.validate(averaged)
    assert after["loss_simple"] == before["loss_simple"]
    assert after["loss_gamma"] == pytest.approx(before["loss_simple"] / np.e + 1)
    assert before["loss_gamma"] == pytest.approx(before["loss_simple"] / np.exp(0.2) + 0.2)


def test_a_flow_has_no_table_to_learn_on(encoded: Path) -> None:
    for name, value in {"elbo_weight": 0.1, "log_variance": LogVarianceConfig()}.items():
        with pytest.raises(ValueError, match=f"^{name} needs a schedule with a table of betas, not Flow"):
            diffusion_recipe(encoded, objective=Objective(prediction="flow", **{name: value}))


@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_previews_are_pictures(kind: str, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(kind)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    recipe.begin(40)
    picture = recipe.preview(recipe.averaged)
    rows, columns = {"autoencoder": (2, 4), "diffusion": (2, 8)}[kind]
    assert picture.shape == (rows * (SIZE + 2) + 2, columns * (SIZE + 2) + 2, 3)
    assert picture.dtype == np.uint8


def test_validation_repeats_and_needs_held_out_images(make_recipe: MakeRecipe) -> None:
    for kind in ("autoencoder", "diffusion"):
        recipe = make_recipe(kind)
        recipe.start(start_session("cpu", "fp32"), BATCH)
        averaged = {name: module.eval() for name, module in recipe.averaged.items()}
        assert recipe.validate(averaged) == recipe.validate(averaged) != {}
        recipe.held_out = None
        assert recipe.validate(averaged) == {}


def test_captions_are_dropped_at_their_share(encoded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = diffusion_recipe(encoded)
    recipe.start(start_session("cpu", "fp32"), BATCH)
    dropped = []
    draw_drop = recipe.conditioner.draw_drop
    monkeypatch.setattr(
        recipe.conditioner, "draw_drop", lambda uniform: dropped.append(draw_drop(uniform)) or dropped[-1]
    )
    monkeypatch.setattr(recipe, "forward", lambda x, time, inputs, drop: (recipe.network.out[2].bias.sum() + x, None))
    for step in range(100):
        recipe.step(recipe.train.batch(0, 12), Draws(0, 12 * step, 12, slice(None)))
    share = torch.cat([each["caption"] for each in dropped]).float().mean().item()
    assert share == pytest.approx(0.2, abs=0.03)


def test_complete_runs_measure_their_latents_over_everything(
    started: AutoencoderRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.training.autoencoder_recipe.STATISTICS_IMAGES", 1)
    monkeypatch.setattr(started, "train", loader(70))
    latents = [started.artifact_config(started.averaged, complete)["latent"] for complete in (False, True)]
    assert latents[0] != latents[1]


def test_the_stored_autoencoder_goes_along(encoded: Path, tmp_path: Path) -> None:
    recipe = diffusion_recipe(encoded)
    run = Trainer(settings(tmp_path, samples=4)).fit(recipe, recipe.train)
    ours, theirs = read_artifact(run), read_artifact(encoded)
    assert ours.config["latent"] == theirs.config["latent"]
    assert ours.config["prediction"] == "flow"
    for key, value in theirs.weights("autoencoder").items():
        assert torch.equal(ours.weights("autoencoder")[key], value)
