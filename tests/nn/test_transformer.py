import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.nn import attention as attention_module
from calotype.nn.normalisation import RMSNorm
from calotype.nn.rotary import rotary_table, rotate
from calotype.nn.transformer import DiTBlock, QKNormAttention, SwiGLU

HIDE = torch.tensor([[True, True, False, True, False], [True, False, False, False, False]])
ORDER = torch.tensor([4, 0, 5, 2, 1, 3])


def tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def normalised(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()


def naive(
    layer: QKNormAttention, x: Tensor, context: Tensor, mask: Tensor | None = None, rotary: Tensor | None = None
) -> Tensor:
    """Softmax attention of normalised queries and keys, head by head, from its definition."""
    q, (k, v) = layer.to_q(x), layer.to_kv(context).chunk(2, dim=-1)
    heads = []
    for rows in torch.arange(q.shape[-1]).chunk(layer.heads):
        queries, keys = normalised(q[..., rows], layer.norm_q.weight), normalised(k[..., rows], layer.norm_k.weight)
        if rotary is not None:
            queries, keys = (rotate(each[:, None], rotary)[:, 0] for each in (queries, keys))
        logits = torch.einsum("bnd,bmd->bnm", queries, keys) / math.sqrt(len(rows))
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None, :], -math.inf)
        weights = logits.exp() / logits.exp().sum(dim=-1, keepdim=True)
        heads.append(weights @ v[..., rows])
    return layer.to_out(torch.cat(heads, dim=-1))


def test_rms_norm_divides_by_the_root_mean_square() -> None:
    norm = RMSNorm(6).double()
    torch.nn.init.normal_(norm.weight)
    x = tokens(2, 5, 6)
    torch.testing.assert_close(norm(x), normalised(x, norm.weight))
    assert RMSNorm(6)(x.bfloat16()).dtype == torch.bfloat16
    assert not list(RMSNorm(6, scale=False).parameters())


@pytest.mark.parametrize("written_out", [True, False])
@pytest.mark.parametrize("mask", [None, HIDE])
def test_attention_equals_its_definition(
    randomised, mask: Tensor | None, written_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "SMALL_SCORES", 2**16 if written_out else 0)
    layer = randomised(QKNormAttention(12, context_channels=7, heads=3))
    x, context = tokens(2, 6, 12), tokens(2, 5, 7)
    torch.testing.assert_close(layer(x, context, mask), naive(layer, x, context, mask), rtol=1e-10, atol=1e-12)
    alone, rotary = randomised(QKNormAttention(12, heads=3)), rotary_table(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(alone(x, rotary=rotary), naive(alone, x, x, rotary=rotary), rtol=1e-10, atol=1e-12)


def test_queries_and_keys_have_one_length(randomised) -> None:
    """However large the tokens are, attention does not sharpen: only values grow."""
    layer = randomised(QKNormAttention(12, context_channels=7, heads=3))
    layer.to_out.bias.data.zero_()
    x, context = tokens(2, 6, 12), tokens(2, 5, 7)
    torch.testing.assert_close(layer(50 * x, 20 * context), 20 * layer(x, context), rtol=1e-4, atol=1e-4)


def test_swiglu(randomised) -> None:
    layer, x = randomised(SwiGLU(48)), tokens(2, 3, 48)
    value, gate = layer.first(x).chunk(2, dim=-1)
    assert value.shape[-1] == 128
    torch.testing.assert_close(layer(x), layer.last(value * torch.sigmoid(value) * gate))


def test_a_block_starts_as_the_identity() -> None:
    block, x = DiTBlock(16, heads=2, context_channels=7), torch.randn(2, 6, 16)
    assert torch.equal(block(x, torch.randn(2, 16), torch.randn(2, 5, 7), rotary=rotary_table(2, 3, 8)), x)


def test_a_block_is_its_equation(randomised) -> None:
    block = randomised(DiTBlock(12, heads=3, context_channels=7))
    x, emb, context = tokens(2, 6, 12), tokens(2, 12), tokens(2, 5, 7)
    rotary = rotary_table(2, 3, 4, dtype=torch.float64)
    one = torch.ones(12, dtype=torch.float64)
    chosen = F.linear(F.silu(emb), block.modulation[1].weight, block.modulation[1].bias).view(2, 6, 1, 12)
    shift1, scale1, gate1, shift3, scale3, gate3 = chosen.unbind(1)
    middle = x + gate1 * naive(block.attn1, *[normalised(x, one) * (1 + scale1) + shift1] * 2, rotary=rotary)
    middle = middle + naive(block.attn2, normalised(middle, block.norm2.weight), context, HIDE)
    expected = middle + gate3 * block.ff(normalised(middle, one) * (1 + scale3) + shift3)
    torch.testing.assert_close(block(x, emb, context, HIDE, rotary=rotary), expected)


def test_without_positions_a_block_follows_a_permutation_of_its_tokens(randomised) -> None:
    block = randomised(DiTBlock(12, heads=3, context_channels=7))
    x, emb, context = tokens(2, 6, 12), tokens(2, 12), tokens(2, 5, 7)
    torch.testing.assert_close(block(x[:, ORDER], emb, context), block(x, emb, context)[:, ORDER])
    torch.testing.assert_close(block(x, emb, context.flip(1)), block(x, emb, context))
    rotary = rotary_table(2, 3, 4, dtype=torch.float64)
    moved, kept = block(x[:, ORDER], emb, context, rotary=rotary), block(x, emb, context, rotary=rotary)
    assert not torch.allclose(moved, kept[:, ORDER])


def test_a_block_looks_at_the_context_through_the_mask(randomised) -> None:
    block = randomised(DiTBlock(12, heads=3, context_channels=7))
    x, emb, context = tokens(2, 6, 12), tokens(2, 12), tokens(2, 5, 7)
    other = torch.where(HIDE[:, :, None], context, tokens(2, 5, 7))
    assert not torch.allclose(block(x, emb, context), block(x, emb, other))
    assert torch.equal(block(x, emb, context, HIDE), block(x, emb, other, HIDE))
