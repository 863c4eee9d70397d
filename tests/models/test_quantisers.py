from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from calotype.models.quantisers import (
    GumbelQuantizeConfig,
    QuantiserConfig,
    VectorQuantizer2,
    VectorQuantizer2Config,
    gumbel_noise,
    vector_quantizer2,
)
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

NEAREST = VectorQuantizer2Config(codes=7)
GUMBEL = GumbelQuantizeConfig(codes=7)
USED = (5, 0, 3)


def vector_quantiser(config: VectorQuantizer2Config, channels: int = 3) -> VectorQuantizer2:
    quantiser = config.build(channels).double()
    torch.nn.init.normal_(quantiser.embedding.weight, generator=torch.Generator().manual_seed(1))
    return quantiser


def latents(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def brute_force(z: Tensor, codes: Tensor) -> Tensor:
    return torch.cdist(z.movedim(1, -1).flatten(0, 2), codes).argmin(dim=1).view(len(z), *z.shape[2:])


@pytest.mark.parametrize("distances", [1, 30, 10**6])
def test_the_nearest_code_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch, distances: int) -> None:
    monkeypatch.setattr(vector_quantizer2, "DISTANCES", distances)
    quantiser, z = vector_quantiser(NEAREST), latents()
    found = quantiser(z)
    assert torch.equal(found.indices, brute_force(z, quantiser.codebook))
    torch.testing.assert_close(found.z, quantiser.codebook[found.indices].movedim(-1, 1))


def test_of_equal_codes_the_first_is_taken() -> None:
    quantiser, z = vector_quantiser(NEAREST), latents()
    quantiser.embedding.weight.data[4:] = quantiser.embedding.weight.data[1]
    assert set(quantiser(z).indices.unique().tolist()) <= {0, 1, 2, 3}
    assert (quantiser(z).indices == 1).any()


def test_a_large_codebook_needs_little_memory(largest) -> None:
    quantiser = VectorQuantizer2Config(codes=16384).build(4)
    z = torch.randn(1, 4, 48, 48, requires_grad=True)
    with largest:
        quantiser(z).loss.backward()
    assert largest.numel <= vector_quantizer2.DISTANCES < 16384 * 48 * 48 / 4


def test_reduced_precision_does_not_reach_the_distances() -> None:
    quantiser = VectorQuantizer2Config(codes=500).build(3)
    z = torch.randn(1, 3, 16, 16) / 500
    with torch.autocast("cpu", torch.bfloat16):
        indices = quantiser(z).indices
    assert torch.equal(indices, brute_force(z.double(), quantiser.codebook.double()))


def test_gradients_pass_straight_through() -> None:
    quantiser, z = vector_quantiser(NEAREST), latents().requires_grad_()
    weight = torch.randn_like(z)
    quantised = quantiser(z)
    grad_z, grad_codes = torch.autograd.grad(
        (quantised.z * weight).sum(), [z, quantiser.embedding.weight], allow_unused=True
    )
    assert torch.equal(grad_z, weight)
    assert grad_codes is None


@pytest.mark.parametrize(("beta_on", "commitment", "movement"), [("commitment", 0.1, 1.0), ("codebook", 1.0, 0.1)])
def test_beta_is_on_the_term_that_is_named(beta_on: Any, commitment: float, movement: float) -> None:
    quantiser = vector_quantiser(replace(NEAREST, beta=0.1, beta_on=beta_on))
    z = latents().requires_grad_()
    quantised = quantiser(z)
    error = (z - quantiser.codebook[quantised.indices].movedim(-1, 1)).detach()
    torch.testing.assert_close(quantised.loss, (commitment + movement) * error.square().mean())
    grad_z, grad_codes = torch.autograd.grad(quantised.loss, [z, quantiser.embedding.weight])
    torch.testing.assert_close(grad_z, commitment * 2 * error / error.numel())
    for code in range(7):
        pulled = (error * (quantised.indices == code)[:, None]).sum(dim=(0, 2, 3))
        torch.testing.assert_close(grad_codes[code], -movement * 2 * pulled / error.numel())


def test_codes_follow_their_latents() -> None:
    """Steps down the loss move codes into the clusters that they are the nearest of: each is used, and closer."""
    quantiser = VectorQuantizer2Config(codes=4).build(2)
    centres = torch.tensor([[3.0, 3.0], [-3.0, 3.0], [3.0, -3.0], [-3.0, -3.0]])
    quantiser.embedding.weight.data = centres / 10
    z = (centres.repeat_interleave(16, 0) + 0.1 * torch.randn(64, 2)).T.reshape(1, 2, 8, 8)
    optimiser = torch.optim.SGD(quantiser.parameters(), lr=2.0)
    for _ in range(40):
        optimiser.zero_grad()
        quantiser(z).loss.backward()
        optimiser.step()
    assert quantiser(z).indices.unique(return_counts=True)[1].tolist() == [16] * 4
    torch.testing.assert_close(quantiser.codebook, centres, atol=0.2, rtol=0)


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, (2, 4, 5)),
        ({"index_shape": "flat"}, (40,)),
        ({"remap": USED}, (2, 4, 5)),
        ({"remap": USED, "index_shape": "flat"}, (40, 1)),
    ],
)
def test_shapes_of_indices(changes: dict[str, Any], shape: tuple[int, ...]) -> None:
    quantiser, z = vector_quantiser(replace(NEAREST, **changes)), latents()
    assert quantiser(z).indices.shape == shape
    assert quantiser.get_codebook_entry(quantiser(z).indices, (2, 4, 5)).shape == z.shape


@pytest.mark.parametrize(("unknown_index", "number"), [("extra", 3), (1, 1), (-9, -9)])
def test_remapped_numbers(unknown_index: Any, number: int) -> None:
    z = latents()
    plain = vector_quantiser(NEAREST)(z)
    remapped = vector_quantiser(replace(NEAREST, remap=USED, unknown_index=unknown_index))(z)
    new = {code: index for index, code in enumerate(USED)}
    assert remapped.indices.flatten().tolist() == [new.get(code, number) for code in plain.indices.flatten().tolist()]
    assert torch.equal(remapped.z, plain.z)
    assert torch.equal(remapped.loss, plain.loss)


def test_unknown_codes_get_random_numbers_of_known_ones() -> None:
    quantiser, z = vector_quantiser(replace(NEAREST, remap=USED)), latents(batch=20)
    known = torch.isin(quantiser.nearest(z), torch.tensor(USED))

    def drawn(seed: int) -> Tensor:
        return quantiser(z, generator=torch.Generator().manual_seed(seed)).indices

    assert torch.equal(drawn(0), drawn(0))
    assert torch.equal(drawn(0)[known], drawn(1)[known])
    assert not torch.equal(drawn(0), drawn(1))
    assert set(drawn(0)[~known].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("config", [NEAREST, replace(NEAREST, remap=tuple(range(6, -1, -1))), GUMBEL])
def test_numbers_lead_back_to_the_codes(config: QuantiserConfig) -> None:
    quantiser, z = config.build(3).double().eval(), latents()
    quantised = quantiser(z)
    torch.testing.assert_close(quantiser.get_codebook_entry(quantised.indices), quantised.z)
    flat = quantiser.get_codebook_entry(quantised.indices.flatten(), (2, 4, 5))
    torch.testing.assert_close(flat, quantised.z)


def test_the_extra_number_stands_for_the_first_code_in_use() -> None:
    quantiser = vector_quantiser(replace(NEAREST, remap=USED, unknown_index="extra"))
    entry = quantiser.get_codebook_entry(torch.tensor([[[1, 3]]]))
    assert torch.equal(entry[0, :, 0].T, quantiser.codebook[[0, 5]])


def test_numbers_without_their_shape_are_refused() -> None:
    quantiser = vector_quantiser(NEAREST)
    with pytest.raises(ValueError, match=r"shape \(6,\) do not fill \(b, h, w\) = \(6,\)"):
        quantiser.get_codebook_entry(torch.zeros(6, dtype=torch.long))
    with pytest.raises(ValueError, match=r"do not fill \(b, h, w\) = \(1, 2, 4\)"):
        quantiser.get_codebook_entry(torch.zeros(6, dtype=torch.long), (1, 2, 4))


def test_the_codes_in_use_are_a_part_of_the_weights() -> None:
    assert set(NEAREST.build(3).state_dict()) == {"embedding.weight"}
    remapped = replace(NEAREST, remap=USED).build(3).state_dict()
    assert remapped["used"].tolist() == list(USED)
    assert set(GUMBEL.build(3).state_dict()) == {"proj.weight", "proj.bias", "embed.weight"}


def test_gumbel_noise_decides_between_codes() -> None:
    quantiser, z = GUMBEL.build(3, code_channels=2).double(), latents()
    noise = gumbel_noise((2, 7, 4, 5), generator=torch.Generator().manual_seed(0)).double()
    expected = (quantiser.logits(z) + noise).argmax(dim=1)
    for mode in (True, False):
        quantised = quantiser.train(mode)(z, noise)
        assert torch.equal(quantised.indices, expected)
        torch.testing.assert_close(quantised.z, quantiser.codebook[expected].movedim(-1, 1))
    assert not torch.equal(expected, quantiser.logits(z).argmax(dim=1))


def test_gumbel_draws_in_training_and_takes_the_likeliest_code_in_evaluation() -> None:
    quantiser, z = GUMBEL.build(3).double(), latents()
    first, again, other = (quantiser(z, generator=torch.Generator().manual_seed(seed)).indices for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(quantiser(z).indices, quantiser(z).indices)
    assert torch.equal(quantiser.eval()(z).indices, quantiser.logits(z).argmax(dim=1))


def test_gumbel_draws_codes_by_their_probabilities() -> None:
    quantiser = GUMBEL.build(3).double()
    z = latents(1)[:, :, :1, :1].expand(1, 3, 200, 200)
    drawn = quantiser(z, generator=torch.Generator().manual_seed(0)).indices
    shares = drawn.flatten().bincount(minlength=7) / drawn.numel()
    torch.testing.assert_close(shares.double(), quantiser.logits(z)[0, :, 0, 0].softmax(0).detach(), atol=0.01, rtol=0)


def test_gumbel_gradients_are_those_of_the_softened_draw() -> None:
    soft = replace(GUMBEL, straight_through=False, temperature=0.7).build(3).double()
    hard = replace(GUMBEL, temperature=0.7).build(3).double()
    hard.load_state_dict(soft.state_dict())
    noise, weight = gumbel_noise((2, 7, 4, 5)).double(), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    gradients = []
    for quantiser in (soft, hard):
        z = latents().requires_grad_()
        gradients.append(torch.autograd.grad((quantiser(z, noise).z * weight).sum(), z)[0])
    torch.testing.assert_close(*gradients)

    mixed = torch.einsum("bnhw,nc->bchw", ((soft.logits(latents()) + noise) / 0.7).softmax(1), soft.codebook)
    torch.testing.assert_close(soft(latents(), noise).z, mixed)
    soft.temperature = 1e-4
    torch.testing.assert_close(soft(latents(), noise).z, hard(latents(), noise).z)


def test_gumbel_loss_is_the_divergence_from_equal_probabilities() -> None:
    quantiser, z = replace(GUMBEL, kl_weight=2.0).build(3).double(), latents()
    torch.nn.init.zeros_(quantiser.proj.weight)
    torch.nn.init.zeros_(quantiser.proj.bias)
    assert quantiser(z).loss.abs() < 1e-8
    quantiser.proj.bias.data[2] = 1000.0
    torch.testing.assert_close(quantiser(z).loss, 2 * torch.tensor(7.0).double().log())


def test_gumbel_never_takes_a_code_that_is_not_in_use() -> None:
    quantiser, z = replace(GUMBEL, remap=USED, straight_through=False).build(3).double(), latents()
    quantised = quantiser(z)
    assert set(quantised.indices.unique().tolist()) <= {0, 1, 2}
    gradient = torch.autograd.grad(quantised.z.sum(), quantiser.embed.weight)[0]
    assert gradient.any(dim=1).nonzero().flatten().tolist() == sorted(USED)
    hard = quantiser.eval()(z)
    torch.testing.assert_close(hard.z, quantiser.get_codebook_entry(hard.indices))


def test_configurations_survive_a_round_trip_by_their_kind() -> None:
    for config in (replace(NEAREST, remap=USED, unknown_index=2, beta_on="codebook"), replace(GUMBEL, remap=USED)):
        assert from_dict(QuantiserConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (NEAREST, {"codes": 0}, "codes must be at least 1"),
        (NEAREST, {"beta": -1.0}, "beta must be at least 0"),
        (NEAREST, {"beta_on": "legacy"}, "beta_on"),
        (NEAREST, {"remap": [0, 7]}, "remap must name codes from 0 to 6"),
        (NEAREST, {"remap": [1, 1]}, "each once"),
        (NEAREST, {"remap": []}, "remap must name"),
        (NEAREST, {"unknown_index": "none"}, "unknown_index"),
        (GUMBEL, {"temperature": 0.0}, "temperature must be positive"),
        (GUMBEL, {"remap": [-1]}, "remap must name"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(
    config: QuantiserConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        from_dict(QuantiserConfig, {**to_dict(config), **change})
