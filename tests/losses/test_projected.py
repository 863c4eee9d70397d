"""A perceptual distance of any number of channels."""

import pytest
import torch
from torch import Tensor

from calotype.losses import LPIPSWithDiscriminatorConfig, NLayerDiscriminatorConfig, ProjectedPerceptualConfig
from calotype.losses.feature_distance import FeatureDistance
from calotype.losses.projected import ProjectedDistance
from calotype.utils.seeds import generator


class Colours(FeatureDistance):
    """Sees the three channels themselves."""

    smallest_size = 1

    def taps(self, images: Tensor) -> list[Tensor]:
        return [images]

    def weigh(self, level: int, squares: Tensor) -> Tensor:
        del level
        return squares.sum(1, keepdim=True)


def images(channels: int) -> tuple[Tensor, Tensor]:
    pair = torch.rand(2, 3, channels, 8, 8, generator=generator("images", channels)) * 2 - 1
    return pair[0], pair[1].requires_grad_()


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_and_grey_are_seen_as_they_are(channels: int) -> None:
    inputs, reconstructions = images(channels)
    found = ProjectedDistance(Colours())(inputs, reconstructions, generator(0))
    assert torch.equal(found, Colours()(inputs, reconstructions))


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_other_channels_are_projected_anew_by_the_generator_alone(channels: int) -> None:
    distance, (inputs, reconstructions) = ProjectedDistance(Colours()), images(channels)
    first, again, other = (distance(inputs, reconstructions, generator(key)) for key in (0, 0, 1))
    assert first.shape == (3, 1, 1, 1)
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3
    assert torch.equal(distance(inputs, reconstructions), distance(inputs, reconstructions))


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_every_channel_is_heard(channels: int) -> None:
    inputs, reconstructions = images(channels)
    distance = ProjectedDistance(Colours())
    total = torch.stack([distance(inputs, reconstructions, generator(step)).sum() for step in range(8)]).sum()
    (gradient,) = torch.autograd.grad(total, reconstructions)
    assert (gradient.abs().mean((0, 2, 3)) > 1e-4).all()


def test_the_loss_draws_by_what_it_is_given_and_says_what_it_is() -> None:
    config = LPIPSWithDiscriminatorConfig(
        disc_start=8, discriminator=NLayerDiscriminatorConfig(in_channels=4), perceptual=ProjectedPerceptualConfig()
    )
    loss = config.build()
    loss.perceptual_loss = ProjectedDistance(Colours())
    inputs, reconstructions = images(4)
    layer = torch.ones(1, requires_grad=True)

    def gradient(*key: int) -> Tensor:
        projections = generator(*key)
        return loss.generator_step_gradients(
            inputs, reconstructions * layer, layer, 0, projections=projections
        ).gradient

    assert torch.equal(gradient(0, 8), gradient(0, 8))
    assert not torch.equal(gradient(0, 8), gradient(0, 16))
