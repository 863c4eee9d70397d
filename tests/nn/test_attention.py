import math

import pytest
import torch
from torch import Tensor

from calotype.nn.attention import BasicTransformerBlock, CrossAttention, FeedForward, SpatialTransformer

HIDE = torch.tensor([[True, True, False, True, False], [True, False, False, False, False]])


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def naive(attention: CrossAttention, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention, head by head, from its definition."""
    q, k, v = attention.to_q(x), attention.to_k(context), attention.to_v(context)
    heads = []
    for rows in torch.arange(q.shape[-1]).chunk(attention.heads):
        logits = torch.einsum("bnd,bmd->bnm", q[..., rows], k[..., rows]) / math.sqrt(len(rows))
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None, :], -math.inf)
        weights = logits.exp() / logits.exp().sum(dim=-1, keepdim=True)
        heads.append(weights @ v[..., rows])
    return attention.to_out(torch.cat(heads, dim=-1))


@pytest.mark.parametrize("mask", [None, HIDE])
def test_attention_equals_its_definition(randomised, mask: Tensor | None) -> None:
    attention = randomised(CrossAttention(12, context_channels=7, heads=3, head_channels=4))
    x, context = tokens(2, 6, 12), tokens(2, 5, 7)
    torch.testing.assert_close(attention(x, context, mask), naive(attention, x, context, mask), rtol=1e-10, atol=1e-12)
    alone = randomised(CrossAttention(12, heads=3, head_channels=4))
    torch.testing.assert_close(alone(x), naive(alone, x, x, None), rtol=1e-10, atol=1e-12)


def test_a_hidden_token_does_not_matter(randomised) -> None:
    attention = randomised(CrossAttention(12, context_channels=7, heads=3, head_channels=4))
    x, context = tokens(2, 6, 12), tokens(2, 5, 7)
    other = torch.where(HIDE[:, :, None], context, 100 * tokens(2, 5, 7))
    assert torch.equal(attention(x, context, HIDE), attention(x, other, HIDE))
    assert not torch.allclose(attention(x, context), attention(x, other))
    torch.testing.assert_close(attention(x, context, HIDE)[1:], attention(x[1:], context[1:, :1]))


def test_self_attention_follows_a_permutation_of_its_tokens(randomised) -> None:
    block = randomised(BasicTransformerBlock(12, heads=2, head_channels=6, context_channels=7))
    x, context, order = tokens(2, 6, 12), tokens(2, 5, 7), torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(block(x[:, order], context), block(x, context)[:, order])
    torch.testing.assert_close(block(x, context), block(x, context.flip(1)))


def test_feed_forward_uses_the_exact_gelu(randomised) -> None:
    x = tokens(2, 3, 4)
    plain, gated = (randomised(FeedForward(4, multiplier=3, gated=gated)) for gated in (False, True))
    first, _, last = plain.net
    torch.testing.assert_close(plain(x), last(gelu(first[0](x))))
    first, _, last = gated.net
    value, gate = first.proj(x)[..., :12], first.proj(x)[..., 12:]
    torch.testing.assert_close(gated(x), last(value * gelu(gate)))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def test_a_spatial_transformer_starts_as_the_identity() -> None:
    block = SpatialTransformer(16, heads=2, head_channels=4, depth=2, context_channels=7)
    x = torch.randn(2, 16, 3, 5)
    assert torch.equal(block(x, torch.randn(2, 4, 7)), x)


def test_a_spatial_transformer_does_not_know_where_a_position_is(randomised) -> None:
    block = randomised(SpatialTransformer(16, heads=2, head_channels=4, depth=2, context_channels=7))
    x, context = tokens(2, 16, 3, 5), tokens(2, 5, 7)
    torch.testing.assert_close(block(x.flip(3), context), block(x, context).flip(3))
    torch.testing.assert_close(block(x.mT, context), block(x, context).mT)


def test_a_spatial_transformer_looks_at_the_context_through_the_mask(randomised) -> None:
    block = randomised(SpatialTransformer(16, heads=2, head_channels=4, depth=2, context_channels=7))
    x, context = tokens(2, 16, 3, 5), tokens(2, 5, 7)
    other = torch.where(HIDE[:, :, None], context, tokens(2, 5, 7))
    assert not torch.allclose(block(x, context), block(x, other))
    assert torch.equal(block(x, context, HIDE), block(x, other, HIDE))


def test_without_a_context_it_attends_to_itself(randomised) -> None:
    block = randomised(BasicTransformerBlock(12, heads=2, head_channels=6, context_channels=None))
    x = tokens(2, 6, 12)
    middle = block.attn1(block.norm1(x)) + x
    middle = block.attn2(block.norm2(middle), block.norm2(middle)) + middle
    torch.testing.assert_close(block(x), block.ff(block.norm3(middle)) + middle)
