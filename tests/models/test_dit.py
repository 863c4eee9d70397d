from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from calotype.models import NetworkConfig
from calotype.models.dit import DiTConfig
from calotype.models.unet import UNetConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

SMALL = DiTConfig(in_channels=3, out_channels=2, channels=16, depth=2, head_channels=8)
ALL_SLOTS = replace(SMALL, in_channels=5, context_channels=7, vector_channels=6, num_classes=4)
VARIANTS = [SMALL, ALL_SLOTS, replace(SMALL, patch_size=1), replace(SMALL, patch_size=4, depth=1, head_channels=4)]


def inputs(config: DiTConfig, size: tuple[int, int] = (8, 12)) -> dict[str, Any]:
    """Random inputs that fill every slot of ``config``; x has three channels, concat the rest."""
    rest = config.in_channels - 3
    return {
        "x": torch.randn(2, 3, *size, dtype=torch.float64),
        "t": torch.tensor([0.3, 700.0], dtype=torch.float64),
        "context": torch.randn(2, 4, 7, dtype=torch.float64) if config.context_channels else None,
        "vector": torch.randn(2, 6, dtype=torch.float64) if config.vector_channels else None,
        "label": torch.tensor([3, 0]) if config.num_classes else None,
        "concat": torch.randn(2, rest, *size, dtype=torch.float64) if rest else None,
    }


@pytest.mark.parametrize("config", VARIANTS)
def test_output_is_zero_at_the_start_and_fits_the_input(randomised, config: DiTConfig) -> None:
    network, given = config.build().double(), inputs(config)
    assert torch.equal(network(**given), torch.zeros(2, 2, 8, 12, dtype=torch.float64))
    randomised(network)
    for size in ((8, 12), (16, 24), (4, 4)):
        output = network(**inputs(config, size))
        assert output.shape == (2, 2, *size)
        assert output.std() > 0.01


def test_it_starts_as_the_paper_says() -> None:
    network = replace(ALL_SLOTS, channels=256, head_channels=64, vector_channels=200).build()
    for embed in (network.time_embed[0], network.time_embed[2], network.vector_embed[0], network.label_embed):
        assert embed.weight.std().item() == pytest.approx(0.02, rel=0.1)
    block = network.blocks[1]
    for layer in (network.patch_embed, block.attn1.to_q, block.attn1.to_kv, block.ff.first, block.ff.last):
        assert layer.weight.std().item() == pytest.approx((2 / sum(layer.weight.shape)) ** 0.5, rel=0.1)
    for layer in (network.out, network.modulation[1], block.modulation[1], block.attn2.to_out):
        assert not layer.weight.any()
    assert not any(value.any() for name, value in network.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("config", VARIANTS)
def test_gradients_reach_every_parameter(randomised, config: DiTConfig) -> None:
    network = randomised(config.build())
    network(**inputs(config)).square().sum().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_every_slot_changes_the_output(randomised) -> None:
    network, given = randomised(ALL_SLOTS.build()), inputs(ALL_SLOTS)
    output = network(**given)
    for name, other in inputs(ALL_SLOTS).items():
        changed = {**given, name: torch.tensor([1, 2]) if name == "label" else other + 1}
        assert not torch.allclose(network(**changed), output), name


def test_images_of_a_batch_are_independent(randomised) -> None:
    network, given = randomised(ALL_SLOTS.build()), inputs(ALL_SLOTS)
    second = {name: value[1:] for name, value in given.items()}
    torch.testing.assert_close(network(**given)[1:], network(**second))


def test_concat_follows_x_over_channels(randomised) -> None:
    config = replace(SMALL, in_channels=5)
    network, given = randomised(config.build()), inputs(config)
    joined = torch.cat([given["x"], given["concat"]], dim=1)
    assert torch.equal(network(**given), network(joined, given["t"]))


def test_a_masked_token_is_not_seen(randomised) -> None:
    network, given = randomised(ALL_SLOTS.build()), inputs(ALL_SLOTS)
    mask = torch.tensor([[True, True, False, False]]).expand(2, 4)
    short = {**given, "context": given["context"][:, :2]}
    torch.testing.assert_close(network(**given, context_mask=mask), network(**short))


def test_a_patch_comes_back_where_it_was(randomised) -> None:
    """With attention and feed-forward off, every patch of the output depends on that patch of the input alone."""
    network, given = randomised(SMALL.build()), inputs(SMALL)
    for block in network.blocks:
        nn.init.zeros_(block.modulation[1].weight)
        nn.init.zeros_(block.modulation[1].bias)
    changed = given["x"].clone()
    changed[:, :, 2:4, 6:8] += 1
    moved = (network(changed, given["t"]) != network(given["x"], given["t"])).any(dim=1)
    expected = torch.zeros_like(moved)
    expected[:, 2:4, 6:8] = True
    assert torch.equal(moved, expected)


def test_a_transposed_image_is_another_image(randomised) -> None:
    network, given = randomised(replace(SMALL, patch_size=1).build()), inputs(SMALL)
    output = network(given["x"], given["t"])
    assert not torch.allclose(network(given["x"].mT, given["t"]), output.mT)


@pytest.mark.parametrize("name", ["context", "vector", "label", "concat"])
def test_a_slot_that_is_missing_or_not_wanted_is_named(name: str) -> None:
    everything, nothing = inputs(ALL_SLOTS), inputs(SMALL)
    with pytest.raises(ValueError, match=rf"(needs a|and) {name}"):
        ALL_SLOTS.build().double()(**{**everything, name: None})
    with pytest.raises(ValueError, match=rf"(takes no|and) {name}"):
        SMALL.build().double()(**{**nothing, name: everything[name]})


def test_a_size_that_cannot_be_cut_into_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4, not 8x6"):
        replace(SMALL, patch_size=4).build().double()(**inputs(SMALL, (8, 6)))


def test_it_learns_eight_latents_by_heart() -> None:
    torch.manual_seed(0)
    network = DiTConfig(in_channels=4, out_channels=4, channels=64, depth=2, head_channels=32).build()
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3, betas=(0.9, 0.95))
    x0, noise, t = torch.randn(8, 4, 8, 8), torch.randn(8, 4, 8, 8), torch.rand(8)
    x_t, losses = torch.lerp(x0, noise, t[:, None, None, None]), []
    for _ in range(60):
        losses.append((network(x_t, 1000 * t) - (noise - x0)).square().mean())
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.02 * losses[0]


def test_nothing_in_it_depends_on_the_data() -> None:
    """It can be traced as one graph (torch.compile needs as much), and the graph computes the same."""
    network = replace(ALL_SLOTS, depth=1).build().double().eval()
    nn.init.normal_(network.out.weight)
    given = inputs(ALL_SLOTS)
    mask = torch.tensor([[True, True, False, False]]).expand(2, 4)
    graph = torch.export.export(network, (), {**given, "context_mask": mask}, strict=False).module()
    other = inputs(ALL_SLOTS)
    torch.testing.assert_close(graph(**other, context_mask=mask), network(**other, context_mask=mask))


def test_half_precision_and_double_stay_what_they_are() -> None:
    for dtype in (torch.bfloat16, torch.float64):
        network = SMALL.build().to(dtype)
        assert network(torch.randn(1, 3, 8, 8, dtype=dtype), torch.tensor([0.5])).dtype == dtype


@pytest.mark.parametrize("config", [*VARIANTS, UNetConfig(in_channels=3, out_channels=3)])
def test_a_network_is_read_by_its_kind(config: DiTConfig | UNetConfig) -> None:
    assert from_dict(NetworkConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"channels": 0}, "channels"),
        ({"depth": 0}, "depth"),
        ({"patch_size": 0}, "patch_size"),
        ({"num_classes": 0}, "num_classes"),
        ({"head_channels": 2}, "head_channels"),
        ({"head_channels": 12}, "head_channels"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{field} "):
        replace(SMALL, **change)
    with pytest.raises(UserError, match=rf"^network: .*\b{field} "):
        from_dict(NetworkConfig, {**to_dict(SMALL), **change}, where="network")
