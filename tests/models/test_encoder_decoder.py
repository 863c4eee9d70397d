from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calotype.models.encoder_decoder import (
    AttnBlock,
    Decoder,
    Downsample,
    Encoder,
    LinAttnBlock,
    Pyramid,
    ResnetBlock,
    Upsample,
)

SMALL = Pyramid(
    channels=8,
    multipliers=(1, 2, 1),
    num_res_blocks=1,
    attention_resolutions=(8,),
    attention="vanilla",
    conv_resample=True,
    resolution=16,
    dropout=0.0,
    space_to_depth=1,
)


def attention_at(module: nn.Module) -> dict[str, str]:
    kinds = (AttnBlock, LinAttnBlock)
    return {name: type(part).__name__ for name, part in module.named_modules() if isinstance(part, kinds)}


@pytest.mark.parametrize(("attention", "block"), [("vanilla", "AttnBlock"), ("linear", "LinAttnBlock")])
def test_attention_is_of_the_kind_that_is_asked_for(attention: Any, block: str) -> None:
    shape = replace(SMALL, attention=attention)
    assert attention_at(Encoder(3, 4, shape)) == {"down.1.attn.0": block, "mid.attn_1": block}
    assert attention_at(Decoder(4, 3, shape)) == {"up.1.attn.0": block, "up.1.attn.1": block, "mid.attn_1": block}


def test_no_attention_has_no_weights() -> None:
    for module in (Encoder(3, 4, replace(SMALL, attention="none")), Decoder(4, 3, replace(SMALL, attention="none"))):
        assert not [name for name in module.state_dict() if "attn" in name]


def test_resolutions_are_those_that_halving_the_nominal_one_gives() -> None:
    """20 goes down as 20, 10, 5, 2, and from there up as 2, 4, 8, 16: as in the reference."""
    shape = replace(SMALL, resolution=20, multipliers=(1, 1, 1, 1), attention_resolutions=(5, 16))
    assert set(attention_at(Encoder(3, 4, shape))) == {"down.2.attn.0", "mid.attn_1"}
    assert set(attention_at(Decoder(4, 3, shape))) == {"up.0.attn.0", "up.0.attn.1", "mid.attn_1"}


def test_linear_attention_position_by_position(randomised) -> None:
    block, x = randomised(LinAttnBlock(3)), torch.randn(2, 3, 2, 4, dtype=torch.float64)
    expected = torch.empty_like(x)
    for b in range(2):
        q, k, v = (block.to_qkv.weight.view(3, 3, 3) @ x[b].flatten(1)).unbind()
        shares = torch.exp(k) / torch.exp(k).sum(dim=1, keepdim=True)  # of each position, per channel of k
        attended = sum(torch.outer(v[:, n], shares[:, n]) for n in range(8)) @ q
        expected[b] = (block.to_out.weight[:, :, 0, 0] @ attended + block.to_out.bias[:, None]).view(3, 2, 4)
    torch.testing.assert_close(block(x), expected)


def test_linear_attention_never_pairs_positions(largest) -> None:
    with largest:
        LinAttnBlock(4)(torch.randn(1, 4, 40, 40))
    assert largest.numel == 3 * 4 * 40 * 40


def test_resampling_without_convolutions_averages_and_repeats() -> None:
    x = torch.randn(1, 3, 4, 6)
    assert not Downsample(3, convolve=False).state_dict()
    assert not Upsample(3, convolve=False).state_dict()
    torch.testing.assert_close(Downsample(3, convolve=False)(x)[0, 1, 1, 2], x[0, 1, 2:, 4:].mean())
    assert torch.equal(Upsample(3, convolve=False)(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))

    shape = replace(SMALL, conv_resample=False)
    encoder, decoder = Encoder(3, 4, shape), Decoder(4, 3, shape)
    assert not [name for module in (encoder, decoder) for name in module.state_dict() if "sample" in name]
    assert decoder(encoder(torch.randn(1, 3, 16, 24))).shape == (1, 3, 16, 24)


def test_tanh_bounds_the_images(randomised) -> None:
    decoder, z = randomised(Decoder(4, 3, SMALL)), torch.randn(2, 4, 4, 4, dtype=torch.float64)
    bounded = randomised(Decoder(4, 3, SMALL, tanh_out=True))
    assert decoder(z).abs().max() > 1
    torch.testing.assert_close(bounded(z), torch.tanh(decoder(z)))


@pytest.mark.parametrize("space_to_depth", [1, 2])
def test_what_the_last_layers_make_images_of(randomised, space_to_depth: int) -> None:
    shape = replace(SMALL, space_to_depth=space_to_depth, multipliers=(2, 1))
    decoder = randomised(Decoder(4, 3, shape))
    z = torch.randn(1, 4, 4, 4, dtype=torch.float64)
    images = decoder(z)
    decoder.give_pre_end = True
    features = decoder(z)
    assert features.shape == (1, 16, 8, 8)
    rest = decoder.conv_out(F.silu(decoder.norm_out(features)))
    torch.testing.assert_close(F.pixel_shuffle(rest, space_to_depth), images)


def test_both_shortcuts_of_a_residual_block(randomised) -> None:
    def keys(block: nn.Module) -> set[str]:
        return {name for name in block.state_dict() if "shortcut" in name}

    assert keys(ResnetBlock(8)) == keys(ResnetBlock(8, shortcut_kernel=3)) == set()
    assert keys(ResnetBlock(8, 16)) == {"nin_shortcut.weight", "nin_shortcut.bias"}
    block = randomised(ResnetBlock(8, 16, shortcut_kernel=3))
    assert keys(block) == {"conv_shortcut.weight", "conv_shortcut.bias"}
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = torch.randn(1, 8, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), F.conv2d(x, block.conv_shortcut.weight, block.conv_shortcut.bias, padding=1))
