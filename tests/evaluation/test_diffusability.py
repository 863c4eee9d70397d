"""Autoencoders that lose nothing, but whose latents are more or less like images."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.evaluation import DiffusabilityProbe
from calotype.models.autoencoder import Autoencoder, IdentityAutoencoderConfig
from calotype.models.distributions import DiagonalGaussianDistribution, DiracDistribution
from calotype.utils.seeds import generator


class Scrambled(Autoencoder):
    """Latents are the pixels in another order: white noise, to the eye."""

    def encode(self, images: Tensor) -> DiracDistribution:
        order = self.order(images)
        return DiracDistribution(images.flatten(2)[:, :, order].view_as(images))

    def decode(self, z: Tensor) -> Tensor:
        order = self.order(z)
        return torch.empty_like(z.flatten(2)).index_copy_(2, order, z.flatten(2)).view_as(z)

    def order(self, images: Tensor) -> Tensor:
        return torch.randperm(images[0, 0].numel(), generator=generator("scrambled"))


class Folded(Autoencoder):
    """Latents are 2 x 2 pixels folded into channels: smooth, but not what small images are folded from."""

    factor = 2

    def encode(self, images: Tensor) -> DiracDistribution:
        return DiracDistribution(F.pixel_unshuffle(images, 2))

    def decode(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, 2)


def smooth(n: int = 12, size: int = 32) -> Tensor:
    coarse = torch.rand(n, 3, 6, 6, generator=generator("smooth")) * 1.6 - 0.8
    return F.interpolate(coarse, (size, size), mode="bicubic").clamp(-1, 1)


def probed(model: Autoencoder, images: Tensor) -> dict[str, Any]:
    probe = DiffusabilityProbe(model)
    for part in images.split(5):
        posterior = model.encode(part)
        probe.add(part, posterior, model.decode(posterior.mode()).clamp(-1, 1))
    return probe.summary()


def test_pixels_are_as_diffusable_as_images() -> None:
    found = probed(IdentityAutoencoderConfig().build(), smooth())
    high, low = found["high_frequencies"], found["low_pass"]
    assert high["value"] == pytest.approx(high["images"], rel=1e-12)
    assert high["value"] < 0.01
    assert found["scale_equivariance"]["value"] == 100
    assert low["value"] == pytest.approx(low["images"], abs=1e-4)
    assert low["value"] > 0.99
    assert low["all_latents"] == 1


def test_latents_like_noise_are_found_out() -> None:
    found = probed(Scrambled(3), smooth())
    high, low = found["high_frequencies"], found["low_pass"]
    assert high["value"] == pytest.approx(high["white_noise"], abs=0.05)
    assert high["images"] < 0.01
    assert found["scale_equivariance"]["value"] < 20
    assert found["scale_equivariance"]["encoded"] == 100
    assert low["value"] < 0.5 < low["images"]
    assert low["all_latents"] == 1


def test_smooth_latents_may_still_not_shrink_as_images_do() -> None:
    found = probed(Folded(12), smooth())
    assert found["high_frequencies"]["value"] < 0.05
    assert 20 < found["scale_equivariance"]["value"] < 45
    small = F.avg_pool2d(smooth(), 2)
    decoded = F.pixel_shuffle(F.avg_pool2d(F.pixel_unshuffle(smooth(), 2), 2), 2)
    decibels = 10 * torch.log10(4 / (small - decoded).square().mean((1, 2, 3)))
    assert found["scale_equivariance"]["value"] == pytest.approx(float(decibels.mean()), abs=1e-3)


def test_noise_of_the_posterior_counts() -> None:
    model, images = IdentityAutoencoderConfig().build(), smooth()
    sure, unsure = DiffusabilityProbe(model), DiffusabilityProbe(model)
    for probe, log_variance in ((sure, -30.0), (unsure, 3.0)):
        moments = torch.cat([images, torch.full_like(images, log_variance)], dim=1)
        probe.add(images, DiagonalGaussianDistribution(moments), images)
    shares = [probe.summary()["high_frequencies"] for probe in (sure, unsure)]
    assert shares[0]["value"] == pytest.approx(shares[0]["images"], rel=1e-6)
    assert shares[1]["value"] > 0.75


def test_variance_explained_is_one_minus_the_relative_error() -> None:
    images = smooth()
    probe = DiffusabilityProbe(IdentityAutoencoderConfig().build())
    probe.add(images, DiracDistribution(images), images * 0.5)
    spread = (images - images.mean((0, 2, 3), keepdim=True)).square().sum()
    expected = 1 - float((0.5 * images).square().sum() / spread)
    assert probe.summary()["low_pass"]["all_latents"] == pytest.approx(expected, rel=1e-5)


def test_latents_too_small_or_flat_are_left_out() -> None:
    found = probed(IdentityAutoencoderConfig().build(), torch.full((2, 3, 1, 1), 0.5))
    assert "scale_equivariance" not in found
    assert "low_pass" not in found
    assert found["high_frequencies"]["value"] is None


def test_odd_latents_are_halved_without_their_last_row() -> None:
    found = probed(IdentityAutoencoderConfig().build(), smooth(size=9))
    assert found["scale_equivariance"]["value"] == 100
