import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers_models import TOLERANCE, built, error, noise, varied

from calotype.interop.diffusers.autoencoder_config import (
    autoencoder_config_from_diffusers,
    latent_statistics_from_diffusers,
    left_out,
)
from calotype.interop.diffusers.parts import autoencoder_part
from calotype.interop.diffusers.weights import autoencoder_from_diffusers
from calotype.models.autoencoder import AutoencoderKLConfig, ConvolutionalAutoencoder, IdentityAutoencoderConfig
from calotype.models.quantisers import GumbelQuantizeConfig, VectorQuantizer2Config
from calotype.models.vq_model import VQModelConfig
from calotype.utils.errors import UserError

SIZE = 64
KL_F4 = AutoencoderKLConfig(channels=32, channel_multipliers=(1, 2, 4), latent_channels=3, resolution=SIZE)
CODES = VectorQuantizer2Config(codes=24, beta_on="codebook", index_shape="flat")
VQ_F4 = VQModelConfig(
    channels=32, channel_multipliers=(1, 2, 4), latent_channels=3, resolution=SIZE, quantiser=CODES, num_res_blocks=1
)
SHAPES = {
    "kl-f4": KL_F4,
    "kl-f8": replace(KL_F4, channel_multipliers=(1, 2, 4, 4), latent_channels=4),
    "kl-f16": replace(KL_F4, channel_multipliers=(1, 1, 2, 2, 4), latent_channels=16, attention_resolutions=(4,)),
    "kl-f32": replace(KL_F4, channel_multipliers=(1, 1, 2, 2, 4, 4), latent_channels=64, attention_resolutions=(4, 2)),
    "kl without attention": replace(KL_F4, attention="none", dropout=0.1),
    "kl of other channels": replace(KL_F4, image_channels=2, out_channels=5, num_res_blocks=1),
    "vq-f4": VQ_F4,
    "vq-f4-noattn": replace(VQ_F4, attention="none"),
    "vq-f8": replace(VQ_F4, channel_multipliers=(1, 2, 2, 4), latent_channels=4, attention_resolutions=(8,)),
    "vq-f16": replace(VQ_F4, channel_multipliers=(1, 1, 2, 2, 4), latent_channels=8, attention_resolutions=(4,)),
    "vq with wide codes": replace(VQ_F4, z_channels=6),
}


@torch.no_grad()
def compare(ours: ConvolutionalAutoencoder, theirs: Any) -> None:
    images = noise(2, ours.config.image_channels, SIZE, SIZE)
    encoded, posterior = theirs.encode(images), ours.encode(images)
    if "latents" in encoded:
        z = encoded.latents
        assert error(ours.decode(z, quantise=False), theirs.decode(z, force_not_quantize=True).sample) < TOLERANCE
    else:
        z = encoded.latent_dist.mean
        assert error(posterior.std, encoded.latent_dist.std) < TOLERANCE
    assert posterior.mean.std() > 0.01
    assert error(posterior.mean, z) < TOLERANCE
    decoded = ours.decode(z)
    assert decoded.std() > 0.01
    assert error(decoded, theirs.decode(z).sample) < TOLERANCE


@pytest.mark.parametrize("name", SHAPES)
def test_diffusers_computes_the_same(name: str) -> None:
    ours = varied(SHAPES[name].build())
    ours.set_latent_statistics([0.0] * ours.latent_channels, [0.25] * ours.latent_channels)
    part = autoencoder_part(ours, SIZE)
    assert part.config["scaling_factor"] == 0.25
    theirs = built(part.config)
    theirs.load_state_dict(part.state, strict=True)
    compare(ours, theirs)

    again = autoencoder_config_from_diffusers(part.config, "vae").build()
    autoencoder_from_diffusers(again, part.state)
    before, after = ours.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert again.factor == ours.factor
    channels = ours.latent_channels
    assert latent_statistics_from_diffusers(part.config, "vae") == ([0.0] * channels, [0.25] * channels)


@torch.no_grad()
def test_statistics_per_channel_are_folded_into_the_convolutions() -> None:
    ours = varied(KL_F4.build())
    ours.set_latent_statistics([0.3, -1.2, 0.0], [0.5, 2.0, 1.3])
    part = autoencoder_part(ours, SIZE)
    theirs = built(part.config)
    theirs.load_state_dict(part.state, strict=True)
    images, z = noise(2, 3, SIZE, SIZE), noise(2, 3, 16, 16)
    posterior, found = ours.encode(images), theirs.encode(images).latent_dist
    assert part.config["scaling_factor"] == 1.0
    assert error(found.mean, ours.normalise(posterior.mean)) < TOLERANCE
    assert error(found.std, posterior.std * ours.latent_scale[:, None, None]) < TOLERANCE
    assert error(theirs.decode(z).sample, ours.decode(ours.denormalise(z))) < TOLERANCE


def test_a_codebook_stays_as_it_is() -> None:
    ours = varied(VQ_F4.build())
    ours.set_latent_statistics([0.3, -1.2, 0.0], [0.5, 2.0, 1.3])
    part = autoencoder_part(ours, SIZE)
    assert part.config["scaling_factor"] == 1.0
    assert torch.equal(part.state["quantize.embedding.weight"], ours.quantize.embedding.weight)
    assert torch.equal(part.state["post_quant_conv.weight"], ours.post_quant_conv.weight)


SHARED = {"block_out_channels": [32, 64, 64], "layers_per_block": 1, "sample_size": SIZE, "_diffusers_version": "0.4.2"}
PLAIN = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
ATTENTION = {
    "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
}
SD = {"_class_name": "AutoencoderKL", **SHARED, **PLAIN}
VQ = {"_class_name": "VQModel", **SHARED, **PLAIN}
FOREIGN = {
    "stable diffusion": SD,
    "flux": SD | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.1159},
    "attention": SD | ATTENTION,
    "attention, and a size that does not halve evenly": SD | ATTENTION | {"sample_size": 50},
    "no attention": SD | {"mid_block_add_attention": False},
    "ldm celebahq": VQ | {"latent_channels": 3, "num_vq_embeddings": 64, "vq_embed_dim": 3},
    "muse": VQ | {"latent_channels": 8, "vq_embed_dim": 4, "mid_block_add_attention": False, "layers_per_block": 2},
    "vq with attention": VQ | ATTENTION,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_autoencoders_of_diffusers_compute_the_same_here(name: str) -> None:
    theirs = built(FOREIGN[name])
    ours = autoencoder_config_from_diffusers(json.loads(theirs.to_json_string()), "vae").build().eval()
    autoencoder_from_diffusers(ours, theirs.state_dict(), left_out(FOREIGN[name]))
    compare(ours, theirs)


def test_statistics_are_those_of_the_pipelines() -> None:
    def of(**values: Any) -> Any:
        return latent_statistics_from_diffusers(SD | {"latent_channels": 2} | values, "vae")

    assert of() == ([0.0, 0.0], [0.18215, 0.18215])
    assert of(scaling_factor=0.5, shift_factor=0.25) == ([0.25, 0.25], [0.5, 0.5])
    assert of(scaling_factor=0.5, latents_mean=[1.0, 2.0], latents_std=[2.0, 4.0]) == ([1.0, 2.0], [0.25, 0.125])
    for wrong in ({"latents_mean": [0.0, 0.0]}, {"latents_mean": [0.0], "latents_std": [1.0], "shift_factor": 1.0}):
        with pytest.raises(UserError, match="latents_mean"):
            of(**wrong)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (replace(KL_F4, space_to_depth=2), "space_to_depth 2"),
        (replace(KL_F4, attention="linear"), "attention 'linear'"),
        (replace(KL_F4, conv_resample=False), "conv_resample False"),
        (replace(KL_F4, tanh_out=True), "tanh_out"),
        (replace(KL_F4, give_pre_end=True), "give_pre_end"),
        (replace(KL_F4, z_channels=8), "z_channels 8 with latent_channels 3"),
        (replace(KL_F4, channels=48), "GroupNorms of 16, 32"),
        (replace(VQ_F4, quantiser=GumbelQuantizeConfig(codes=8)), "quantiser 'gumbel'"),
        (replace(VQ_F4, quantiser=replace(CODES, remap=(1, 2))), "remap"),
        (IdentityAutoencoderConfig(), "IdentityAutoencoder"),
    ],
)
def test_what_has_no_image_is_refused_with_the_reason(config: Any, reason: str) -> None:
    with pytest.raises(UserError, match=f"{reason}.*: diffusers has no image of it: "):
        autoencoder_part(config.build(), SIZE)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (SD | {"act_fn": "gelu"}, "act_fn"),
        (SD | {"new_thing": 1}, "new_thing"),
        (SD | {"_class_name": "AutoencoderTiny"}, "AutoencoderTiny"),
        (SD | {"block_out_channels": [64, 96, 96]}, "block_out_channels"),
        (SD | {"down_block_types": ATTENTION["down_block_types"]}, "up_block_types"),
        (SD | ATTENTION | {"mid_block_add_attention": False}, "mid_block_add_attention"),
        (VQ | {"norm_type": "spatial"}, "norm_type"),
    ],
)
def test_options_without_a_counterpart_are_refused_by_name(config: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        autoencoder_config_from_diffusers(config, "vae")
