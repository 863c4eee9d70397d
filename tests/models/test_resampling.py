"""The shortcut of a change of resolution, alone: its convolution is zero."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.resampling import Downsample, Shortcut, Upsample
from calotype.nn.normalisation import zero_init
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

SHORTCUT: Shortcut = "space_to_depth"
DEEP = AutoencoderKLConfig(
    resolution=16, channels=8, channel_multipliers=(1, 2, 4, 4), num_res_blocks=1, attention="none"
)


def alone(layer: type[Downsample] | type[Upsample], channels: int, out_channels: int) -> Downsample | Upsample:
    return zero_init(layer(channels, out_channels, shortcut=SHORTCUT)).double()


def test_four_times_the_channels_hold_every_value_in_its_place() -> None:
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    down = alone(Downsample, 3, 12)(x)
    assert torch.equal(down.view(2, 3, 2, 2, 4, 3)[:, :, 1, 0], x[:, :, 1::2, 0::2])
    assert torch.equal(alone(Upsample, 12, 3)(down), x)


def test_equal_channels_are_averaged_and_repeated() -> None:
    x = torch.randn(2, 4, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(alone(Downsample, 4, 4)(x), F.avg_pool2d(x, 2))
    assert torch.equal(alone(Upsample, 4, 4)(x), F.interpolate(x, scale_factor=2.0, mode="nearest"))


def test_twice_the_channels_keep_the_means_of_neighbouring_columns() -> None:
    x = torch.randn(2, 4, 8, 6, dtype=torch.float64)
    again = alone(Upsample, 8, 4)(alone(Downsample, 4, 8)(x))
    torch.testing.assert_close(again, F.interpolate(F.avg_pool2d(x, (1, 2)), scale_factor=(1.0, 2.0), mode="nearest"))


@pytest.mark.parametrize("widths", [(4, 4, 4), (4, 8, 16), (2, 8, 4), (8, 2, 8)])
def test_down_and_up_keep_the_coarse_content_and_what_they_keep_they_keep_again(widths: tuple[int, ...]) -> None:
    steps = list(pairwise(widths))

    def round_trip(x: torch.Tensor) -> torch.Tensor:
        for here, there in steps:
            x = alone(Downsample, here, there)(x)
        for here, there in reversed(steps):
            x = alone(Upsample, there, here)(x)
        return x

    x = torch.randn(1, widths[0], 8, 8, dtype=torch.float64)
    once = round_trip(x)
    torch.testing.assert_close(round_trip(once), once)
    if widths[1] >= widths[0]:
        torch.testing.assert_close(F.avg_pool2d(once, 4), F.avg_pool2d(x, 4))
    else:
        torch.testing.assert_close(once.mean((1, 2, 3)), x.mean((1, 2, 3)))


def test_the_convolution_is_added(randomised) -> None:
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    for layer, plain in ((Downsample, Downsample(4, 8)), (Upsample, Upsample(4, 8))):
        residual = randomised(layer(4, 8, shortcut=SHORTCUT))
        plain.double().load_state_dict(residual.state_dict())
        torch.testing.assert_close(residual(x), plain(x) + alone(layer, 4, 8)(x))


def test_an_autoencoder_changes_its_width_where_the_shortcut_is() -> None:
    model = replace(DEEP, shortcut=SHORTCUT).build()
    ups, downs = model.decoder.up, model.encoder.down
    assert [level.downsample.conv.weight.shape[:2] for level in downs[:-1]] == [(16, 8), (32, 16), (32, 32)]
    assert [level.upsample.conv.weight.shape[:2] for level in ups[1:]] == [(8, 16), (16, 32), (32, 32)]
    assert all(isinstance(part, torch.nn.Module) and not hasattr(part.block[0], "nin_shortcut") for part in downs)
    images = torch.randn(1, 3, 16, 32)
    reconstruction, _ = model(images)
    assert reconstruction.shape == images.shape


def test_without_it_the_keys_are_those_of_the_reference() -> None:
    plain = DEEP.build().state_dict()
    assert plain["encoder.down.0.downsample.conv.weight"].shape == (8, 8, 3, 3)
    assert plain["encoder.down.1.block.0.nin_shortcut.weight"].shape == (16, 8, 1, 1)
    assert plain["decoder.up.1.upsample.conv.weight"].shape == (16, 16, 3, 3)


def test_every_weight_of_it_learns(randomised) -> None:
    model = randomised(replace(DEEP, shortcut=SHORTCUT).build())
    model(torch.randn(1, 3, 16, 16, dtype=torch.float64))[0].square().sum().backward()
    used = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
    assert {name for name, _ in model.named_parameters()} - used == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_resample": False}, "it needs conv_resample"),
        ({"channel_multipliers": (1, 3)}, r"divides four times the next and the one before, not \(1, 3\)"),
        ({"channel_multipliers": (1, 8)}, "needs channel_multipliers"),
        ({"shortcut": "space_to_width"}, "shortcut"),
    ],
)
def test_what_has_no_shortcut_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_dict(AutoencoderKLConfig, {**to_dict(DEEP), "shortcut": SHORTCUT, **change})
