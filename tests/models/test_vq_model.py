from dataclasses import replace
from typing import Any

import pytest
import torch

from calotype.models import AutoencoderConfig
from calotype.models.autoencoder import AutoencoderKLConfig, IdentityAutoencoderConfig
from calotype.models.distributions import DiracDistribution
from calotype.models.quantisers import GumbelQuantizeConfig, VectorQuantizer2Config, gumbel_noise
from calotype.models.vq_model import VQModelConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

SMALL = VQModelConfig(
    resolution=16,
    channels=8,
    channel_multipliers=(1, 2),
    num_res_blocks=1,
    latent_channels=4,
    z_channels=3,
    quantiser=VectorQuantizer2Config(codes=11),
)
GUMBEL = replace(SMALL, quantiser=GumbelQuantizeConfig(codes=11))
IMAGES = torch.randn(2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        (SMALL, 2),
        (GUMBEL, 2),
        (replace(SMALL, space_to_depth=2), 4),
        (replace(SMALL, space_to_depth=4, channel_multipliers=(1,), z_channels=None, attention="linear"), 4),
        (replace(SMALL, channel_multipliers=(1, 1, 1), conv_resample=False, attention_resolutions=(4,)), 4),
    ],
)
def test_shapes_at_every_factor(config: VQModelConfig, factor: int) -> None:
    model = config.build().double()
    reconstruction, quantised = model(IMAGES)
    assert model.factor == factor
    assert reconstruction.shape == IMAGES.shape
    assert quantised.z.shape == (2, 4, 16 // factor, 24 // factor) == model.encode(IMAGES).mode().shape
    assert quantised.indices.shape == quantised.z[:, 0].shape
    assert quantised.loss.shape == ()


@pytest.mark.parametrize("config", [SMALL, GUMBEL])
def test_latents_are_quantised_where_they_are_decoded(randomised, config: VQModelConfig) -> None:
    model = randomised(config.build())
    posterior = model.encode(IMAGES)
    assert isinstance(posterior, DiracDistribution)
    latents = posterior.mode()
    assert torch.equal(latents, model.quant_conv(model.encoder(IMAGES)))

    quantised = model.quantise(latents)
    plain = model.decoder(model.post_quant_conv(latents))
    assert torch.equal(model.decode(latents, quantise=False), plain)
    assert torch.equal(model.decode(latents), model.decode(quantised.z, quantise=False))
    assert not torch.allclose(model.decode(latents), plain)
    reconstruction, again = model(IMAGES)
    assert torch.equal(reconstruction, model.decode(latents))
    assert torch.equal(again.indices, quantised.indices)


def test_codes_can_be_decoded_by_their_numbers(randomised) -> None:
    model = randomised(SMALL.build())
    reconstruction, quantised = model(IMAGES)
    entry = model.quantize.get_codebook_entry(quantised.indices)
    torch.testing.assert_close(model.decode(entry, quantise=False), reconstruction)


def test_the_encoder_learns_through_the_codes_and_the_codes_from_their_loss(randomised) -> None:
    model = randomised(SMALL.build())
    reconstruction, quantised = model(IMAGES)
    encoder, codes = model.encoder.conv_in.weight, model.quantize.embedding.weight
    through, unused = torch.autograd.grad(reconstruction.sum(), [encoder, codes], retain_graph=True, allow_unused=True)
    assert through.any()
    assert unused is None
    moved = torch.autograd.grad(quantised.loss, codes)[0].any(dim=1)
    assert moved.nonzero().flatten().tolist() == quantised.indices.unique().tolist()


def test_gumbel_noise_reaches_the_quantiser(randomised) -> None:
    model = randomised(GUMBEL.build())
    noise = gumbel_noise((2, 11, 8, 12), generator=torch.Generator().manual_seed(0)).double() * 9
    reconstruction, quantised = model(IMAGES, noise)
    assert torch.equal(quantised.indices, (model.quantize.logits(model.encode(IMAGES).mode()) + noise).argmax(dim=1))
    assert not torch.allclose(reconstruction, model(IMAGES)[0])


@pytest.mark.parametrize("quantiser", [VectorQuantizer2Config(codes=16), GumbelQuantizeConfig(codes=16)])
def test_it_learns_its_images(quantiser: Any) -> None:
    """Two flat colours: in some steps reconstructions come near, and more than one code is in use."""
    torch.manual_seed(0)
    model = replace(SMALL, quantiser=quantiser, attention="none").build()
    images = torch.tensor([0.8, -0.8])[:, None, None, None].expand(2, 3, 8, 8)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    errors = []
    for _ in range(60):
        reconstruction, quantised = model(images)
        error = (reconstruction - images).square().mean()
        optimiser.zero_grad()
        (error + quantised.loss).backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < 0.1 * errors[0]
    assert len(model(images)[1].indices.unique()) > 1


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_latents_are_float32_at_least(dtype: torch.dtype, expected: torch.dtype) -> None:
    assert SMALL.build().to(dtype).encode(IMAGES.to(dtype)).mode().dtype == expected


def test_the_last_layer_is_the_last_convolution() -> None:
    model = SMALL.build()
    assert model.last_layer is model.get_parameter("decoder.conv_out.weight")


def test_state_dict_keys_of_the_quantiser() -> None:
    remapped = replace(SMALL, quantiser=VectorQuantizer2Config(codes=11, remap=(3, 4)))
    assert {name for name in SMALL.build().state_dict() if "quantize" in name} == {"quantize.embedding.weight"}
    assert {name for name in remapped.build().state_dict() if "quantize" in name} == {
        "quantize.used",
        "quantize.embedding.weight",
    }


@pytest.mark.parametrize(
    ("changes", "codes", "encoder", "decoder"),
    [
        ({"channel_multipliers": (1, 2, 4), "latent_channels": 3}, 8192, 22.3, 33.0),
        ({"channel_multipliers": (1, 2, 4), "latent_channels": 3, "attention": "none"}, 8192, 21.3, 31.9),
        ({"channel_multipliers": (1, 2, 2, 4), "attention_resolutions": (32,)}, 16384, 27.4, 40.3),
        (
            {"channel_multipliers": (1, 1, 2, 2, 4), "latent_channels": 8, "attention_resolutions": (16,)},
            16384,
            28.2,
            41.3,
        ),
    ],
)
def test_the_published_models_have_their_number_of_parameters(
    changes: dict[str, Any], codes: int, encoder: float, decoder: float
) -> None:
    with torch.device("meta"):
        model = VQModelConfig(**changes, quantiser=VectorQuantizer2Config(codes=codes)).build()
    for part, millions in ((model.encoder, encoder), (model.decoder, decoder)):
        assert sum(value.numel() for value in part.parameters()) / 1e6 == pytest.approx(millions, abs=0.051)
    assert model.quantize.embedding.weight.shape == (codes, model.latent_channels)


def test_the_kind_decides_what_a_configuration_is() -> None:
    for config in (SMALL, GUMBEL, AutoencoderKLConfig(resolution=16), IdentityAutoencoderConfig()):
        again = from_dict(AutoencoderConfig, to_dict(config))
        assert again == config
        assert type(again) is type(config)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantiser": {"kind": "vector_quantiser"}}, r"quantiser\.vector_quantiser\.codes"),
        ({"quantiser": {"kind": "finite"}}, "quantiser"),
        ({"latent_channels": 0}, "latent_channels"),
        ({"kind": "autoencoder_vq"}, "kind"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=rf"^autoencoder: .*\b{field}\b"):
        from_dict(VQModelConfig, {**to_dict(SMALL), **change}, where="autoencoder")
