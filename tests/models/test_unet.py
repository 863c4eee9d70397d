from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calotype.models.unet import UNet, UNetConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

SMALL = UNetConfig(
    in_channels=3, out_channels=2, channels=16, num_res_blocks=1, attention_factors=(2,), head_channels=8
)
ALL_SLOTS = replace(
    SMALL,
    in_channels=5,
    transformer_depth=1,
    context_channels=7,
    vector_channels=6,
    num_classes=4,
    scale_shift_norm=True,
)
VARIANTS = [
    SMALL,
    ALL_SLOTS,
    replace(SMALL, channel_multipliers=(1,)),
    replace(SMALL, channel_multipliers=(1, 2, 3), num_res_blocks=2, attention_factors=(1, 4)),
    replace(SMALL, resblock_updown=True, heads=4, head_channels=None, heads_up=2),
    replace(SMALL, conv_resample=False, attention_factors=()),
]


def inputs(config: UNetConfig, size: tuple[int, int] = (8, 12)) -> dict[str, Any]:
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
def test_output_is_zero_at_the_start_and_fits_the_input(randomised, config: UNetConfig) -> None:
    network, given = config.build().double(), inputs(config)
    assert torch.equal(network(**given), torch.zeros(2, 2, 8, 12, dtype=torch.float64))
    randomised(network)
    for size in ((8, 12), (16, 24), (4, 4)):
        output = network(**inputs(config, size))
        assert output.shape == (2, 2, *size)
        assert output.std() > 0.01


@pytest.mark.parametrize("config", VARIANTS)
def test_every_skip_is_used(config: UNetConfig) -> None:
    network = config.build()
    levels, blocks = len(config.channel_multipliers), config.num_res_blocks
    assert len(network.input_blocks) == len(network.output_blocks) == levels * (blocks + 1)
    widths = [config.channels]
    for level, multiplier in enumerate(config.channel_multipliers):
        widths += [config.channels * multiplier] * (blocks + (level < levels - 1))
    above = config.channels * config.channel_multipliers[-1]
    for block, skip in zip(network.output_blocks, reversed(widths), strict=True):
        assert block[0].in_layers[0].num_channels == above + skip
        above = block[0].out_layers[0].num_channels


def test_attention_sits_where_it_is_asked_for() -> None:
    config = replace(
        SMALL, channel_multipliers=(1, 2, 2), attention_factors=(2,), heads=4, head_channels=None, heads_up=2
    )
    network = config.build()
    heads = {name: module.heads for name, module in network.named_modules() if hasattr(module, "heads")}
    assert heads == {"input_blocks.3.1": 4, "middle_block.1": 4, "output_blocks.2.1": 2, "output_blocks.3.1": 2}


def test_every_slot_changes_the_output(randomised) -> None:
    network, given = randomised(ALL_SLOTS.build()), inputs(ALL_SLOTS)
    output = network(**given)
    for name, other in inputs(ALL_SLOTS).items():
        changed = {**given, name: torch.tensor([1, 2]) if name == "label" else other + 1}
        assert not torch.allclose(network(**changed), output), name


def test_dropout_sits_in_residual_blocks() -> None:
    network = replace(ALL_SLOTS, dropout=0.3).build()
    shares = {name: module.p for name, module in network.named_modules() if isinstance(module, nn.Dropout)}
    assert all(share == (0.3 if "out_layers" in name else 0) for name, share in shares.items())
    assert 0.3 in shares.values()


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


@pytest.mark.parametrize("name", ["context", "vector", "label", "concat"])
def test_a_slot_that_is_missing_or_not_wanted_is_named(name: str) -> None:
    everything, nothing = inputs(ALL_SLOTS), inputs(SMALL)
    with pytest.raises(ValueError, match=rf"(needs a|and) {name}"):
        ALL_SLOTS.build().double()(**{**everything, name: None})
    with pytest.raises(ValueError, match=rf"(takes no|and) {name}"):
        SMALL.build().double()(**{**nothing, name: everything[name]})


@pytest.mark.parametrize("size", [(6, 8), (8, 10)])
def test_a_size_that_cannot_be_halved_is_refused(size: tuple[int, int]) -> None:
    network = replace(SMALL, channel_multipliers=(1, 2, 2)).build().double()
    with pytest.raises(ValueError, match=f"multiples of 4, not {size[0]}x{size[1]}"):
        network(**inputs(SMALL, size))


def test_it_is_fully_convolutional(randomised) -> None:
    """On a torus, a periodic image twice as large has a periodic output: nothing depends on size or place."""
    network, given = randomised(VARIANTS[3].build()), inputs(SMALL)
    on_a_torus(network)
    output = network(**given)
    torch.testing.assert_close(network(given["x"].tile(1, 1, 2, 2), given["t"]), output.tile(1, 1, 2, 2))
    shifted = network(given["x"].roll((4, 8), dims=(2, 3)), given["t"])
    torch.testing.assert_close(shifted, output.roll((4, 8), dims=(2, 3)))


def on_a_torus(network: UNet) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"


CHURCHES = {"channels": 192, "channel_multipliers": (1, 2, 2, 4, 4), "attention_factors": (1, 2, 4, 8), "heads": 8}
TEXT = {"channels": 320, "channel_multipliers": (1, 2, 4, 4), "attention_factors": (4, 2, 1), "heads": 8}
FACES = {"channels": 224, "channel_multipliers": (1, 2, 3, 4), "attention_factors": (8, 4, 2), "head_channels": 32}
LAYOUT = {"channels": 128, "channel_multipliers": (1, 2, 3, 4), "attention_factors": (8, 4, 2), "head_channels": 32}
SEMANTIC = {"channels": 128, "channel_multipliers": (1, 4, 8), "attention_factors": (8, 16, 32), "heads": 8}


@pytest.mark.parametrize(
    ("shape", "millions"),
    [
        ({"in_channels": 3, **FACES}, 274.1),
        ({"in_channels": 4, **CHURCHES, "scale_shift_norm": True, "resblock_updown": True}, 295.0),
        ({"in_channels": 4, **TEXT, "transformer_depth": 1, "context_channels": 1280}, 872.3),
        ({"in_channels": 4, **TEXT, "transformer_depth": 1, "context_channels": 768}, 859.5),
        ({"in_channels": 6, **SEMANTIC}, 215.2),
    ],
)
def test_the_published_models_have_their_number_of_parameters(shape: dict[str, Any], millions: float) -> None:
    out_channels = 4 if shape["in_channels"] == 4 else 3
    with torch.device("meta"):
        network = UNetConfig(**{"head_channels": None, "out_channels": out_channels, **shape}).build()
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("config", VARIANTS)
def test_configurations_survive_a_round_trip(config: UNetConfig) -> None:
    assert from_dict(UNetConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"channels": 0}, "channels"),
        ({"num_classes": 0}, "num_classes"),
        ({"channel_multipliers": (2, 4)}, "channel_multipliers"),
        ({"channel_multipliers": (1, 0)}, "channel_multipliers"),
        ({"heads": 2}, "heads or head_channels"),
        ({"head_channels": 12}, "head_channels"),
        ({"head_channels": None, "heads": 5}, "heads"),
        ({"head_channels": None, "heads": 4, "heads_up": 5}, "heads_up"),
        ({"heads_up": 2}, "heads_up"),
        ({"context_channels": 7}, "context_channels"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{field} "):
        replace(SMALL, **change)
    with pytest.raises(UserError, match=rf"^network: .*\b{field} "):
        from_dict(UNetConfig, {**to_dict(SMALL), **change}, where="network")


def test_heads_need_to_fit_only_where_attention_sits() -> None:
    config = replace(SMALL, channels=24, channel_multipliers=(1, 2), attention_factors=(2,), head_channels=16)
    assert config.build()(torch.zeros(1, 3, 4, 4), torch.zeros(1)).shape == (1, 2, 4, 4)
    with pytest.raises(ValueError, match="24 channels"):
        replace(config, attention_factors=(1,))


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UserError, match="chanels"):
        from_dict(UNetConfig, {**to_dict(SMALL), "chanels": 3})


def test_half_precision_and_double_stay_what_they_are(randomised) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        network = SMALL.build().to(dtype)
        x: Tensor = torch.randn(1, 3, 8, 8, dtype=dtype)
        assert network(x, torch.tensor([0.5])).dtype == dtype


def test_logits_of_codes_at_every_position() -> None:
    network = UNetConfig(in_channels=3, out_channels=3, channels=32, channel_multipliers=(1, 2), codes=11).build()
    assert network(torch.randn(2, 3, 8, 8), torch.zeros(2)).shape == (2, 11, 8, 8)
    assert {"id_predictor.1.weight", "out.2.weight"} <= network.state_dict().keys()
    with pytest.raises(ValueError, match="codes"):
        UNetConfig(in_channels=3, out_channels=3, codes=11, space_to_depth=2)
