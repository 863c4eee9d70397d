"""Bits per value where they are known: pixels that are independent, normal, and rounded to levels."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import calotype as ct
from calotype.conditioner import ConditionerConfig
from calotype.data.batch import Batch
from calotype.diffusion import Denoise, Denoiser, Estimate, Flow, Linear, NoiseSchedule
from calotype.diffusion.likelihood import DiscretisedNormal
from calotype.evaluation.likelihood import evaluate_likelihood, level_width, likelihood_rows
from calotype.models.autoencoder import Autoencoder
from calotype.models.distributions import DiagonalGaussianDistribution
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.errors import UserError

MEAN, STD, SIZE, NUMBERS = 0.1, 0.25, 4, 16
FORMAT = ct.PixelFormat(channels=1)
WIDTH = 2 / 255
NETWORK = ct.UNetConfig(
    in_channels=1, out_channels=1, channels=32, channel_multipliers=(1,), num_res_blocks=1, attention_factors=()
)


def batch(count: int, seed: int) -> Batch:
    x = MEAN + STD * torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    x = (-1 + WIDTH * ((x + 1) / WIDTH).round()).clamp(-1, 1)
    return Batch(x, {}, torch.arange(count))


def true_bits(images: Tensor) -> Tensor:
    nats = DiscretisedNormal(WIDTH, STD)(images.double(), torch.full_like(images, MEAN).double())
    return nats / (NUMBERS * math.log(2))


def gaussian(schedule: NoiseSchedule, mean: float, std: float) -> Denoise:
    """E[x_0 | x_t] for data from N(mean, std^2)."""

    def denoise(x_t: Tensor, t: Tensor) -> Estimate:
        alpha, sigma = schedule.marginal(t, x_t)
        residual = (x_t - alpha * mean) / (alpha**2 * std**2 + sigma**2)
        return Estimate(mean + alpha * std**2 * residual, sigma * residual, alpha, sigma)

    return denoise


class Blurred(Autoencoder):
    """Latents are the pixels, with a posterior of standard deviation ``spread``."""

    def __init__(self, spread: float) -> None:
        super().__init__(1)
        self.spread = spread

    def encode(self, images: Tensor) -> DiagonalGaussianDistribution:
        logvar = torch.full_like(images, 2 * math.log(self.spread))
        return DiagonalGaussianDistribution(torch.cat([images, logvar], dim=1))

    def decode(self, z: Tensor) -> Tensor:
        return z


@dataclass(frozen=True)
class Oracle:
    """The exact denoiser of the normalised latents, in place of a network."""

    exact: Denoise

    def bind(self, conditioning: object) -> Denoise:
        return self.exact


class Known(LatentDiffusion):
    oracle: Oracle

    @property
    def denoiser(self) -> Denoiser:
        return self.oracle  # type: ignore[return-value]


def known(autoencoder: Autoencoder, schedule: NoiseSchedule, spread: float = 0.0) -> Known:
    """A model that knows its data, on an autoencoder whose latents are normalised by any shift and scale."""
    first_stage = TrainedAutoencoder(autoencoder, FORMAT, SIZE)
    model = Known(
        autoencoder=first_stage,
        conditioner=ConditionerConfig().build(),
        network=NETWORK.build(),
        schedule=schedule,
        prediction="v",
    )
    shift, scale = float(autoencoder.latent_shift[0]), float(autoencoder.latent_scale[0])
    std = math.hypot(STD, spread)
    model.oracle = Oracle(gaussian(schedule, (MEAN - shift) * scale, std * scale))
    return model


def normalised(autoencoder: Autoencoder, shift: float, scale: float) -> Autoencoder:
    autoencoder.set_latent_statistics([shift], [scale])
    return autoencoder


@pytest.mark.parametrize("schedule", [Flow(), Linear()])
def test_in_pixels_both_bounds_are_near_the_truth(schedule):
    pixels = normalised(ct.IdentityAutoencoderConfig(image_channels=1).build(), MEAN, 1 / STD)
    held_out = batch(32, 1)
    found = evaluate_likelihood(known(pixels, schedule), batch(64, 0), [held_out])
    truth = true_bits(held_out.images).mean().item()
    for name, slack in (("ode", 0.1), ("vlb", 0.15)):
        part = found[name]
        assert part["value"] == pytest.approx(part["reconstruction"] + part["latent"], abs=1e-9)
        assert -4 * part["standard_error"] < part["value"] - truth < slack, name
    assert (found["n"], found["dims"], found["levels"], found["outside"]) == (32, NUMBERS, [256], 0)
    assert "standard_normal" not in found


def test_the_scale_of_latents_does_not_matter():
    """log p(z) = log p(normalised z) + sum of log scale."""
    held_out, values = batch(8, 1), []
    for shift, scale in ((0.0, 1.0), (MEAN, 1 / STD), (-0.3, 5.0)):
        model = known(normalised(Blurred(0.02), shift, scale), Flow(), 0.02)
        values.append(evaluate_likelihood(model, batch(64, 0), [held_out])["ode"]["value"])
    assert values[1:] == pytest.approx([values[0]] * 2, abs=2e-3)


def test_a_posterior_costs_no_more_than_its_divergence_from_the_true_one():
    """q(z | x) of std 0.02 is nearly that of the model, so that the bound is nearly tight; the VLB is looser."""
    held_out = batch(32, 1)
    model = known(normalised(Blurred(0.02), MEAN, 1 / STD), Flow(), 0.02)
    alone = evaluate_likelihood(model, batch(64, 0), [held_out])
    truth = true_bits(held_out.images).mean().item()
    assert abs(alone["ode"]["value"] - truth) < 0.1
    assert alone["ode"]["value"] - 0.02 < alone["vlb"]["value"] < truth + 0.5
    rows = likelihood_rows(alone)
    assert [row.measure for row in rows][:2] == [
        "bits per value, variational bound",
        "bits per value, probability-flow ODE",
    ]


def test_an_autoencoder_alone_has_standard_normal_latents():
    held_out = batch(48, 1)
    found = evaluate_likelihood(TrainedAutoencoder(Blurred(0.02), FORMAT, SIZE), batch(64, 0), [held_out])
    assert {"vlb", "ode"}.isdisjoint(found)
    kl = Blurred(0.02).encode(held_out.images).kl().mean().item() / (NUMBERS * math.log(2))
    assert found["standard_normal"]["latent"] == pytest.approx(kl, rel=1e-5)
    assert found["decoder"]["scale"] == pytest.approx(0.02, rel=0.1)
    assert found["standard_normal"]["value"] > true_bits(held_out.images).mean()


def test_what_has_no_likelihood_is_refused():
    points = TrainedAutoencoder(ct.IdentityAutoencoderConfig(image_channels=1).build(), FORMAT, SIZE)
    with pytest.raises(UserError, match="only a diffusion model of them has a likelihood"):
        evaluate_likelihood(points, batch(4, 0), [batch(4, 1)])
    floats = TrainedAutoencoder(Blurred(0.1), ct.PixelFormat(channels=1, dtype="float32", high=1.0), SIZE)
    with pytest.raises(UserError, match="images of float32 have none"):
        evaluate_likelihood(floats, batch(4, 0), [batch(4, 1)])
    with pytest.raises(UserError, match="no images to measure"):
        evaluate_likelihood(TrainedAutoencoder(Blurred(0.1), FORMAT, SIZE), batch(4, 0), [])


def test_levels_are_those_of_the_format():
    assert level_width(ct.PixelFormat()).flatten().tolist() == pytest.approx([2 / 255] * 3)
    assert level_width(ct.PixelFormat(channels=1, high=16.0)).item() == pytest.approx(2 / 16)
    ranges = ct.PixelFormat(channels=2, dtype="uint16", low=(0.0, 100.0), high=(4095.0, 1100.0))
    assert level_width(ranges).flatten().tolist() == pytest.approx([2 / 4095, 2 / 1000])


def test_values_out_of_range_are_the_last_level_and_counted():
    images = torch.full((3, 1, SIZE, SIZE), 0.0)
    images[:, :, 0] = 1.5
    model = TrainedAutoencoder(Blurred(0.1), FORMAT, SIZE)
    found = evaluate_likelihood(model, batch(64, 0), [Batch(images, {}, torch.arange(3))])
    assert found["outside"] == pytest.approx(1 / SIZE)
    edge = evaluate_likelihood(model, batch(64, 0), [Batch(images.clamp(max=1), {}, torch.arange(3))])
    assert edge["standard_normal"]["value"] == pytest.approx(found["standard_normal"]["value"], abs=1e-9)
