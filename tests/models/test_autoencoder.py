from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calotype.models import AutoencoderConfig
from calotype.models.autoencoder import (
    AutoencoderKL,
    AutoencoderKLConfig,
    IdentityAutoencoder,
    IdentityAutoencoderConfig,
)
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

SMALL = AutoencoderKLConfig(
    resolution=16, channels=8, channel_multipliers=(1, 2), num_res_blocks=1, attention_resolutions=(8,), z_channels=3
)


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        (replace(SMALL, channel_multipliers=(2,)), 1),
        (SMALL, 2),
        (replace(SMALL, channel_multipliers=(1, 1, 2), latent_channels=2, z_channels=None), 4),
        (replace(SMALL, channel_multipliers=(1, 1, 1, 1), attention="none", image_channels=1), 8),
        (replace(SMALL, space_to_depth=2), 4),
        (replace(SMALL, channel_multipliers=(1,), space_to_depth=4, image_channels=4), 4),
    ],
)
def test_factor_and_shapes(config: AutoencoderKLConfig, factor: int) -> None:
    model = config.build()
    assert model.factor == config.factor == factor
    for height, width in ((16, 16), (32, 48)):
        images = torch.randn(2, config.image_channels, height, width)
        posterior = model.encode(images)
        assert posterior.mean.shape == (2, config.latent_channels, height // factor, width // factor)
        assert model.decode(posterior.mean).shape == images.shape


def test_forward_decodes_a_sample_of_the_posterior(randomised) -> None:
    model, images = randomised(SMALL.build()), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    noise = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    posterior = model.encode(images)
    reconstruction, parameters = model(images, noise)
    torch.testing.assert_close(reconstruction, model.decode(posterior.mean + posterior.std * noise))
    assert torch.equal(parameters, torch.cat([posterior.mean, posterior.parameters[:, 4:]], dim=1))
    assert torch.equal(model(images)[0], model.decode(posterior.mean))
    assert not torch.allclose(reconstruction, model(images)[0])


def test_space_to_depth_puts_every_pixel_into_a_channel() -> None:
    """With the convolutions replaced by identities, the folded pixels come back where they were."""
    model = replace(SMALL, space_to_depth=2).build()
    folded = {}
    model.encoder.conv_in.register_forward_pre_hook(lambda module, args: folded.update(x=args[0]))
    images = torch.arange(2 * 3 * 16 * 16.0).view(2, 3, 16, 16)
    model.encode(images)
    assert torch.equal(folded["x"].view(2, 3, 2, 2, 8, 8)[:, :, 1, 0], images[:, :, 1::2, 0::2])
    model.decoder.conv_out = Constant(folded["x"])
    assert torch.equal(model.decode(torch.zeros(2, 4, 4, 4)), images)


class Constant(nn.Module):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[2:] == self.value.shape[2:]
        return self.value


def test_attention_sits_where_it_is_asked_for() -> None:
    def places(config: AutoencoderKLConfig) -> list[str]:
        return [name for name, module in config.build().named_modules() if type(module).__name__ == "AttnBlock"]

    middles = ["encoder.mid.attn_1", "decoder.mid.attn_1"]
    assert places(SMALL) == ["encoder.down.1.attn.0", *middles, "decoder.up.1.attn.0", "decoder.up.1.attn.1"]
    assert places(replace(SMALL, attention_resolutions=())) == middles
    assert places(replace(SMALL, attention_resolutions=(), attention="none")) == []
    halved = places(replace(SMALL, space_to_depth=2))
    assert [name for name in halved if "down" in name] == ["encoder.down.0.attn.0"]


def test_it_is_fully_convolutional(randomised, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a torus, a periodic image twice as large has a periodic latent and reconstruction."""
    model = randomised(SMALL.build())
    pad = F.pad
    monkeypatch.setattr(F, "pad", lambda x, sizes, mode="circular": pad(x, sizes, mode="circular"))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    images = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    (small, moments), (large, more) = model(images), model(images.tile(1, 1, 2, 2))
    torch.testing.assert_close(more, moments.tile(1, 1, 2, 2))
    torch.testing.assert_close(large, small.tile(1, 1, 2, 2))


def test_dropout_reaches_every_residual_block() -> None:
    model = replace(SMALL, dropout=0.3).build()
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.3}


def test_downsampling_pads_below_and_to_the_right() -> None:
    model = replace(SMALL, channel_multipliers=(1, 1), attention_resolutions=(), attention="none").build()
    down = model.encoder.down[0].downsample
    x = torch.randn(1, 8, 4, 4)
    padded = torch.cat([torch.cat([x, torch.zeros(1, 8, 4, 1)], dim=3), torch.zeros(1, 8, 1, 5)], dim=2)
    torch.testing.assert_close(down(x), down.conv(padded))


@pytest.mark.parametrize("size", [(15, 16), (16, 18)])
def test_a_size_that_is_not_a_multiple_of_the_factor_is_refused(size: tuple[int, int]) -> None:
    model = replace(SMALL, channel_multipliers=(1, 1, 1)).build()
    with pytest.raises(ValueError, match=f"multiples of 4, not {size[0]}x{size[1]}"):
        model.encode(torch.zeros(1, 3, *size))


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="takes 3 channels, not 4"):
        SMALL.build().encode(torch.zeros(1, 4, 16, 16))


@pytest.mark.parametrize("config", [SMALL, IdentityAutoencoderConfig(image_channels=4)])
def test_latents_are_normalised_per_channel_and_back(config: AutoencoderKLConfig | IdentityAutoencoderConfig) -> None:
    model = config.build().double()
    shift, scale = torch.tensor([0.5, -2.0, 0.0, 30.0]), torch.tensor([0.5, 1.0, 4.0, 0.02])
    z = torch.randn(64, 4, 8, 8, dtype=torch.float64)
    assert torch.equal(model.normalise(z), z), "nothing is measured yet"
    model.set_latent_statistics(shift.tolist(), scale.tolist())
    raw = z / scale[:, None, None] + shift[:, None, None]
    torch.testing.assert_close(model.normalise(raw), z, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.denormalise(z), raw, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.denormalise(model.normalise(raw)), raw)


def test_latent_statistics_are_no_weights() -> None:
    model = SMALL.build()
    assert not any("latent" in name for name in model.state_dict())
    with pytest.raises(ValueError, match="need 4 values, not 1 and 4"):
        model.set_latent_statistics([0.0], [1.0] * 4)


def test_what_is_decoded_may_have_other_channels_than_what_is_encoded() -> None:
    model = replace(SMALL, image_channels=2, out_channels=5).build()
    reconstruction, parameters = model(torch.randn(1, 2, 16, 16), torch.randn(1, 4, 8, 8))
    assert reconstruction.shape == (1, 5, 16, 16)
    assert parameters.shape == (1, 8, 8, 8)


def test_without_convolutions_resampling_has_no_weights() -> None:
    assert any("sample" in name for name in SMALL.build().state_dict())
    assert not any("sample" in name for name in replace(SMALL, conv_resample=False).build().state_dict())


def test_the_decoder_ends_as_the_configuration_says(randomised) -> None:
    z = torch.randn(1, 4, 4, 4, dtype=torch.float64)
    assert randomised(SMALL.build()).decode(z).abs().max() > 1
    assert randomised(replace(SMALL, tanh_out=True).build()).decode(z).abs().max() <= 1
    assert randomised(replace(SMALL, give_pre_end=True, channel_multipliers=(2, 1)).build()).decode(z).shape[1] == 16


def test_a_configuration_of_an_older_artifact_means_what_it_meant() -> None:
    """Before attention, resampling and the decoder's end were options, files did not name them."""
    new = {"out_channels", "conv_resample", "shortcut", "tanh_out", "give_pre_end"}
    old = {name: value for name, value in to_dict(SMALL).items() if name not in new}
    assert from_dict(AutoencoderConfig, old) == SMALL
    assert next(iter(to_dict(SMALL))) == "kind"


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_the_posterior_is_float32_at_least(dtype: torch.dtype, expected: torch.dtype) -> None:
    posterior = SMALL.build().to(dtype).encode(torch.randn(1, 3, 16, 16, dtype=dtype))
    assert posterior.mean.dtype == posterior.std.dtype == expected


def test_the_last_layer_is_the_last_convolution() -> None:
    model = SMALL.build()
    assert model.last_layer is model.get_parameter("decoder.conv_out.weight")
    gradient = torch.autograd.grad(model(torch.randn(1, 3, 16, 16))[0].sum(), model.last_layer)[0]
    assert gradient.any()


def test_the_identity_leaves_pixels_alone() -> None:
    model = IdentityAutoencoderConfig().build()
    images = torch.randn(2, 3, 5, 7)
    posterior = model.encode(images)
    assert torch.equal(model.decode(posterior.sample(torch.randn(2, 3, 5, 7))), images)
    assert model.factor == 1
    assert model.latent_channels == 3
    assert not list(model.parameters())


@pytest.mark.parametrize(
    ("changes", "encoder", "decoder"),
    [
        ({"channel_multipliers": (1, 2, 4), "latent_channels": 3}, 22.4, 33.0),
        ({}, 34.2, 49.5),
        (
            {"channel_multipliers": (1, 1, 2, 2, 4), "latent_channels": 16, "attention_resolutions": (16,)},
            28.3,
            41.3,
        ),
    ],
)
def test_the_published_models_have_their_number_of_parameters(
    changes: dict[str, Any], encoder: float, decoder: float
) -> None:
    with torch.device("meta"):
        model = AutoencoderKLConfig(**changes).build()
    for part, millions in ((model.encoder, encoder), (model.decoder, decoder)):
        assert sum(value.numel() for value in part.parameters()) / 1e6 == pytest.approx(millions, abs=0.051)


def test_configurations_survive_a_round_trip_by_their_kind() -> None:
    for config, built in ((SMALL, AutoencoderKL), (IdentityAutoencoderConfig(image_channels=1), IdentityAutoencoder)):
        again = from_dict(AutoencoderConfig, to_dict(config))
        assert again == config
        assert type(again.build()) is built


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"resolution": 0}, "resolution"),
        ({"space_to_depth": 0}, "space_to_depth"),
        ({"z_channels": 0}, "z_channels"),
        ({"channel_multipliers": ()}, "channel_multipliers"),
        ({"channel_multipliers": (1, 0)}, "channel_multipliers"),
        ({"out_channels": 0}, "out_channels"),
        ({"attention": "quadratic"}, "attention"),
        ({"chanels": 3}, "chanels"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=rf"^autoencoder: .*\b{field}\b"):
        from_dict(AutoencoderKLConfig, {**to_dict(SMALL), **change}, where="autoencoder")
