from typing import Any

import pytest
import torch
from torch import nn

from calotype.models.tiny_decoder import TinyDecoderConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

SMALL = TinyDecoderConfig(widths=(8, 4), blocks=1)


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        (SMALL, 4),
        (TinyDecoderConfig(), 8),
        (TinyDecoderConfig(widths=(4,), depth_to_space=1, image_channels=13), 1),
        (TinyDecoderConfig(widths=(8, 8), depth_to_space=3, latent_channels=16, image_channels=1), 6),
    ],
)
def test_factor_and_shapes(config: TinyDecoderConfig, factor: int) -> None:
    decoder = config.build()
    assert decoder.factor == config.factor == factor
    images = decoder(torch.randn(2, config.latent_channels, 5, 3))
    assert images.shape == (2, config.image_channels, 5 * factor, 3 * factor)


def test_latents_are_clamped_softly() -> None:
    decoder = TinyDecoderConfig(depth_to_space=1).build()
    decoder.layers = nn.Identity()
    z = torch.tensor([0.01, -1.0, 3.0, 1000.0]).view(1, 4, 1, 1)
    expected = torch.tensor([0.01, -0.9645, 2.2848, 3.0]).view(1, 4, 1, 1)
    torch.testing.assert_close(decoder(z), expected, atol=1e-4, rtol=0)


def test_pixels_look_at_the_latents_around_them_alone(randomised) -> None:
    decoder, z = randomised(SMALL.build()), torch.randn(1, 4, 1, 24, dtype=torch.float64)
    other = z.clone()
    other[..., 0] += 1
    changed = (decoder(z) != decoder(other)).any(dim=1).any(dim=1)[0]
    reach = 3 + 4 // 2  # three convolutions at the latents' resolution, four at twice that
    assert changed[:4].all()
    assert not changed[4 * (reach + 1) :].any()


def test_every_weight_learns(randomised) -> None:
    decoder = randomised(SMALL.build())
    decoder(torch.randn(2, 4, 6, 6, dtype=torch.float64)).square().sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in decoder.parameters())


@pytest.mark.parametrize(
    "change", [{"widths": ()}, {"widths": (8, 0)}, {"blocks": 0}, {"depth_to_space": 0}, {"latent_channels": 0}]
)
def test_a_shape_that_cannot_be_built_is_refused(change: dict[str, Any]) -> None:
    (name,) = change
    assert from_dict(TinyDecoderConfig, to_dict(SMALL)) == SMALL
    with pytest.raises(UserError, match=rf"\b{name}\b"):
        from_dict(TinyDecoderConfig, {**to_dict(SMALL), **change})
