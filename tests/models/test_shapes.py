"""Of any height and width: networks keep them, autoencoders divide them by their factor and give them back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.dit import DiTConfig
from calotype.models.quantisers import FSQConfig
from calotype.models.unet import UNetConfig
from calotype.models.vq_model import VQModelConfig

multipliers = some.lists(some.sampled_from([1, 2]), min_size=1, max_size=3).map(lambda rest: (1, *rest[1:]))
networks = some.builds(
    UNetConfig,
    in_channels=some.just(3),
    out_channels=some.integers(1, 3),
    channels=some.just(8),
    channel_multipliers=multipliers,
    num_res_blocks=some.just(1),
    attention_factors=some.sampled_from([(), (1,), (2,)]),
    head_channels=some.just(8),
) | some.builds(
    DiTConfig,
    in_channels=some.just(3),
    out_channels=some.integers(1, 3),
    channels=some.just(16),
    depth=some.just(1),
    head_channels=some.just(8),
    patch_size=some.sampled_from([1, 2, 4]),
)
shape = {"channels": some.just(8), "channel_multipliers": multipliers, "num_res_blocks": some.just(1)}
autoencoders = some.builds(AutoencoderKLConfig, latent_channels=some.integers(1, 4), **shape) | some.builds(
    VQModelConfig, latent_channels=some.just(2), quantiser=some.just(FSQConfig(levels=(3, 4))), **shape
)
sides = some.integers(2, 5)  # a single position has no variance over one channel


@given(config=networks, batch=some.integers(1, 3), height=sides, width=sides)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_network_keeps_height_and_width(config, batch, height, width):
    network, t = config.build(), torch.rand(batch)
    x = torch.randn(batch, 3, config.factor * height, config.factor * width)
    assert network(x, t).shape == (batch, config.out_channels, *x.shape[2:])
    if config.factor > 1:
        with pytest.raises(ValueError, match=f"multiples? of {config.factor}"):
            network(x[:, :, 1:], t)


@given(config=autoencoders, batch=some.integers(1, 2), height=sides, width=sides)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_an_autoencoder_gives_the_size_back(config, batch, height, width):
    model = config.build()
    images = torch.randn(batch, 3, model.factor * height, model.factor * width)
    latents = model.encode(images).sample(generator=torch.Generator().manual_seed(0))
    assert latents.shape == (batch, config.latent_channels, height, width)
    assert model.decode(latents).shape == images.shape
    if model.factor > 1:
        with pytest.raises(ValueError, match=f"multiples? of {model.factor}"):
            model.encode(images[:, :, :, 1:])
