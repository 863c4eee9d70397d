import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calotype.nn.attention import SpatialTransformer
from calotype.nn.blocks import AttentionBlock, Downsample, ResBlock, TimestepEmbedSequential, Upsample


@pytest.mark.parametrize("scale_shift_norm", [False, True])
def test_a_residual_block_starts_as_the_identity(scale_shift_norm: bool) -> None:
    x, emb = torch.randn(2, 16, 4, 6), torch.randn(2, 5)
    assert torch.equal(ResBlock(16, 5, scale_shift_norm=scale_shift_norm)(x, emb), x)
    wider = ResBlock(16, 5, out_channels=24, scale_shift_norm=scale_shift_norm)
    assert torch.equal(wider(x, emb), wider.skip_connection(x))


def test_resampling_changes_both_branches(randomised) -> None:
    x, emb = torch.randn(2, 16, 4, 6), torch.randn(2, 5)
    up, down = ResBlock(16, 5, resample="up"), ResBlock(16, 5, resample="down")
    assert torch.equal(up(x, emb), x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    torch.testing.assert_close(down(x, emb), x.view(2, 16, 2, 2, 3, 2).mean(dim=(3, 5)))
    for block, size in ((up, (8, 12)), (down, (2, 3))):
        assert randomised(block)(x.double(), emb.double()).shape[2:] == size


def test_the_embedding_is_added_or_scales_and_shifts(randomised) -> None:
    x, emb = torch.randn(2, 16, 4, 6, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    for scale_shift_norm in (False, True):
        block = randomised(ResBlock(16, 5, scale_shift_norm=scale_shift_norm))
        norm, rest = block.out_layers[0], block.out_layers[1:]
        h, e = block.in_layers(x), block.emb_layers(emb)[:, :, None, None]
        h = norm(h) * (1 + e[:, :16]) + e[:, 16:] if scale_shift_norm else norm(h + e)
        torch.testing.assert_close(block(x, emb), x + rest(h))


def test_the_skip_has_a_kernel_where_the_width_changes() -> None:
    assert isinstance(ResBlock(16, 5, skip_kernel=3).skip_connection, nn.Identity)
    for kernel in (1, 3):
        block = ResBlock(16, 5, out_channels=8, skip_kernel=kernel)
        assert block.skip_connection.kernel_size == (kernel, kernel)
        assert block(torch.randn(2, 16, 4, 6), torch.randn(2, 5)).shape == (2, 8, 4, 6)


def test_attention_over_positions_starts_as_the_identity_and_follows_permutations(randomised) -> None:
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    block = AttentionBlock(16, heads=4).double()
    assert torch.equal(block(x), x)
    randomised(block)
    assert not torch.allclose(block(x), x)
    torch.testing.assert_close(block(x.flip(2)), block(x).flip(2))
    torch.testing.assert_close(block(x.mT), block(x).mT)


def test_head_orders_are_permutations_of_each_other(randomised) -> None:
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    legacy, new = (randomised(AttentionBlock(16, heads=4, split_heads_first=first)) for first in (True, False))
    assert not torch.allclose(legacy(x), new(x))
    order = (
        torch.arange(48).view(4, 3, 4).movedim(1, 0).flatten()
    )  # (heads, q k v, channels) to (q k v, heads, channels)
    new.qkv.weight.data, new.qkv.bias.data = legacy.qkv.weight[order], legacy.qkv.bias[order]
    torch.testing.assert_close(legacy(x), new(x))


def test_resampling_layers() -> None:
    x = torch.randn(2, 4, 6, 8)
    assert torch.equal(Downsample(4, convolve=False)(Upsample(4, convolve=False)(x)), x)
    down, up = Downsample(4), Upsample(4)
    padded = F.conv2d(F.pad(x, (1, 1, 1, 1)), down.op.weight, down.op.bias, stride=2)
    torch.testing.assert_close(down(x), padded)
    torch.testing.assert_close(up(x), up.conv(Upsample(4, convolve=False)(x)))


def test_each_layer_of_a_sequence_gets_what_it_takes(randomised) -> None:
    transformer = SpatialTransformer(16, heads=2, head_channels=8, context_channels=7)
    layers = nn.Conv2d(3, 16, 3, padding=1), ResBlock(16, 5), transformer, AttentionBlock(16), Downsample(16)
    sequence = randomised(TimestepEmbedSequential(*layers))
    x, emb, context = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, 3, 4, 6), (2, 5), (2, 4, 7)))
    mask = torch.tensor([[True, False, True, True], [True, True, True, False]])
    conv, res, transformer, attention, down = sequence
    expected = down(attention(transformer(res(conv(x), emb), context, mask)))
    assert torch.equal(sequence(x, emb, context, mask), expected)
    assert not torch.allclose(sequence(x, emb, context), expected)
