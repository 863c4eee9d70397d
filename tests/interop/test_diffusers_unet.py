import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers_models import TOLERANCE, built, error, varied
from torch import Tensor

from calotype.interop.diffusers.parts import unet_part
from calotype.interop.diffusers.unet_config import unet_config_from_diffusers
from calotype.interop.diffusers.weights import unet_from_diffusers
from calotype.models.unet import UNet, UNetConfig
from calotype.utils.errors import UserError

CELEBA = UNetConfig(
    in_channels=3, out_channels=3, channels=32, channel_multipliers=(1, 2, 3, 4), attention_factors=(8, 4, 2)
)
CIN256_V2 = UNetConfig(
    in_channels=3,
    out_channels=3,
    channels=32,
    channel_multipliers=(1, 2, 3, 5),
    attention_factors=(8, 4, 2),
    heads=1,
    head_channels=None,
    transformer_depth=1,
    context_channels=24,
)
TEXT = replace(
    CIN256_V2, in_channels=4, out_channels=4, channel_multipliers=(1, 2, 4, 4), attention_factors=(4, 2, 1), heads=8
)
RELEASED = {
    "celeba256": CELEBA,
    "cin256": replace(
        CIN256_V2, channel_multipliers=(1, 2, 4), attention_factors=(4, 2, 1), heads=None, head_channels=32
    ),
    "cin256-v2": CIN256_V2,
    "bsr_sr": replace(CELEBA, in_channels=6, channel_multipliers=(1, 2, 2, 4), attention_factors=(16, 8)),
    "semantic_synthesis256": replace(
        CELEBA,
        in_channels=6,
        channel_multipliers=(1, 4, 8),
        attention_factors=(32, 16, 8),
        heads=8,
        head_channels=None,
    ),
    "layout2img": replace(
        CIN256_V2, channel_multipliers=(1, 2, 3, 4), heads=None, head_channels=32, transformer_depth=3
    ),
    "text2img256": replace(CIN256_V2, heads=None, head_channels=32),
    "txt2img-1p4B": TEXT,
    "stable-diffusion-v1": replace(TEXT, context_channels=48),
    "rdm768": replace(
        TEXT, in_channels=16, out_channels=16, channel_multipliers=(1, 2, 3, 4), heads=None, head_channels=32
    ),
}
INPAINTING_BIG = replace(CELEBA, in_channels=7, heads=8, head_channels=None, resblock_updown=True)
LSUN_CHURCHES256 = replace(
    INPAINTING_BIG,
    in_channels=4,
    out_channels=4,
    channel_multipliers=(1, 2, 2, 4, 4),
    attention_factors=(1, 2, 4, 8),
    scale_shift_norm=True,
)
OWN = {
    "label": replace(CELEBA, num_classes=5, dropout=0.1),
    "label and context": replace(CIN256_V2, num_classes=5, num_res_blocks=1),
    "vector and context": replace(CIN256_V2, vector_channels=10, scale_shift_norm=True),
    "q k v, then heads": replace(CELEBA, split_heads_first=False),
    "one head everywhere": replace(CELEBA, heads=1, head_channels=None),
    "heads by number": replace(CELEBA, attention_factors=(8,), heads=4, head_channels=None),
    "residual resampling": replace(CELEBA, resblock_updown=True, scale_shift_norm=True),
    "transformer without context": replace(CIN256_V2, context_channels=None),
    "one level": replace(CELEBA, channel_multipliers=(1,), attention_factors=()),
}
SHAPES = RELEASED | OWN


def inputs(config: UNetConfig) -> dict[str, Tensor | None]:
    side = 2 * config.factor if config.factor < 8 else config.factor
    generator = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(2, config.in_channels, side, side, generator=generator),
        "t": torch.tensor([17.0, 803.5]),
        "context": torch.randn(2, 5, config.context_channels, generator=generator) if config.context_channels else None,
        "vector": torch.randn(2, config.vector_channels, generator=generator) if config.vector_channels else None,
        "label": torch.tensor([3, 0]) if config.num_classes else None,
    }


def of_ours(network: UNet, given: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return network(**given)


def of_theirs(network: Any, given: dict[str, Any]) -> Tensor:
    """Call a network of diffusers as its folder's README.md says."""
    extra: dict[str, Any] = {}
    if given["vector"] is not None or given["label"] is not None:
        extra["class_labels"] = given["label"] if given["vector"] is None else given["vector"]
    if type(network).__name__ == "UNet2DConditionModel":
        extra["encoder_hidden_states"] = given["context"]
    with torch.no_grad():
        return network(given["x"], given["t"], **extra).sample


@pytest.mark.parametrize("name", SHAPES)
def test_diffusers_computes_the_same(name: str) -> None:
    config = SHAPES[name]
    network = varied(config.build())
    part, given = unet_part(network, sample_size=8), inputs(config)
    theirs = built(part.config)
    theirs.load_state_dict(part.state, strict=True)
    wanted = of_ours(network, given)
    assert wanted.std() > 0.01
    assert error(of_theirs(theirs, given), wanted) < TOLERANCE

    again = unet_config_from_diffusers(part.config, "unet").build().eval()
    unet_from_diffusers(again, part.state)
    assert error(of_ours(again, given), wanted) < 1e-5
    if config.split_heads_first:
        before, after = network.state_dict(), again.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


SD = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [32, 64, 128, 128],
    "cross_attention_dim": 48,
    "sample_size": 64,
}
LDM = {
    "_class_name": "UNet2DModel",
    "attention_head_dim": 32,
    "block_out_channels": [32, 64, 96, 128],
    "sample_size": 64,
    "act_fn": "swish",
}
FOREIGN = {
    "stable diffusion 1": SD,
    "stable diffusion 2": SD | {"attention_head_dim": [2, 4, 8, 8], "use_linear_projection": True},
    "upscaler": SD | {"num_class_embeds": 12, "in_channels": 7, "attention_head_dim": 8},
    "ldm celebahq": LDM,
    "ldm text2im": SD | {"block_out_channels": [32, 64, 128, 128], "cross_attention_dim": 128},
    "resnet resampling": LDM
    | {
        "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["ResnetUpsampleBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "attention_head_dim": None,
    },
}


@pytest.mark.parametrize("name", FOREIGN)
def test_networks_of_diffusers_compute_the_same_here(name: str) -> None:
    theirs = built(FOREIGN[name])
    config = unet_config_from_diffusers(json.loads(theirs.to_json_string()), "unet")
    network, given = config.build().eval(), inputs(config)
    unet_from_diffusers(network, theirs.state_dict())
    wanted = of_theirs(theirs, given)
    assert wanted.std() > 0.01
    assert error(of_ours(network, given), wanted) < TOLERANCE


def test_old_names_of_attention_are_read() -> None:
    theirs = built(LDM)
    config = unet_config_from_diffusers(LDM, "unet")
    network, old = config.build().eval(), {}
    for key, tensor in theirs.state_dict().items():
        for name, was in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            key = key.replace(f".{name}.", f".{was}.")
        old[key] = tensor
    assert "mid_block.attentions.0.proj_attn.weight" in old
    unet_from_diffusers(network, old)
    given = inputs(config)
    assert error(of_ours(network, given), of_theirs(theirs, given)) < TOLERANCE


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (replace(CELEBA, space_to_depth=2), "space_to_depth 2"),
        (replace(CELEBA, conv_resample=False), "conv_resample False"),
        (replace(CELEBA, heads=4, head_channels=None), "heads 4.*16, 24, 32 channels wide"),
        (replace(TEXT, heads_up=4), "heads_up 4"),
        (replace(TEXT, resblock_updown=True), "resblock_updown"),
        (replace(TEXT, vector_channels=3, num_classes=2), "vector_channels with num_classes"),
        (replace(CELEBA, vector_channels=3), "vector_channels without transformer_depth"),
        (replace(CELEBA, channels=48, head_channels=16), "GroupNorms of 16, 32 groups"),
        (LSUN_CHURCHES256, "heads 8"),
        (INPAINTING_BIG, "heads 8"),
    ],
)
def test_what_has_no_image_is_refused_with_the_reason(config: UNetConfig, reason: str) -> None:
    with torch.device("meta"):
        network = config.build()
    with pytest.raises(UserError, match=reason):
        unet_part(network, sample_size=8)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"norm_eps": 1e-6}, "norm_eps"),
        ({"flip_sin_to_cos": False}, "flip_sin_to_cos"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"transformer_layers_per_block": [1, 2, 10, 10]}, "transformer_layers_per_block"),
        ({"layers_per_block": [1, 2, 2, 2]}, "layers_per_block"),
        ({"attention_head_dim": [2, 4, 4, 4]}, "attention_head_dim"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "SimpleCrossAttn|CrossAttnDownBlock2D"),
        ({"mid_block_type": None}, "mid_block_type"),
        ({"up_block_types": ["UpBlock2D"] * 4}, "up_block_types"),
        ({"block_out_channels": [32, 48, 64, 64]}, "block_out_channels"),
        ({"time_warp": True}, "time_warp"),
        ({"_class_name": "UNet3DConditionModel"}, "UNet3DConditionModel"),
        ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift"),
    ],
)
def test_options_without_a_counterpart_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    assert unet_config_from_diffusers(SD, "unet").context_channels == 48
    with pytest.raises(UserError, match=named):
        unet_config_from_diffusers(SD | changes, "unet")


def test_the_middle_needs_normalisation() -> None:
    with pytest.raises(UserError, match="attn_norm_num_groups"):
        unet_config_from_diffusers(LDM | {"resnet_time_scale_shift": "scale_shift"}, "unet")


def test_weights_must_fit_exactly() -> None:
    network = CELEBA.build()
    state = dict(unet_part(network, 8).state)
    fresh = CELEBA.build()
    for wrong, message in (
        ({**state, "down_blocks.9.resnets.0.conv1.weight": torch.zeros(1)}, "no place.*down_blocks.9"),
        ({key: value for key, value in state.items() if key != "conv_in.bias"}, "missing.*input_blocks.0.0.bias"),
        ({key: value for key, value in state.items() if "mid_block.attentions.0.to_k" not in key}, "lack middle_block"),
        (state | {"conv_in.bias": torch.zeros(5)}, "another shape.*input_blocks.0.0.bias"),
    ):
        with pytest.raises(UserError, match=message):
            unet_from_diffusers(fresh, wrong)
