from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calotype.conditioner import Box, ConditionerConfig, LayoutConfig, LayoutObject
from calotype.data.pixel_format import PixelFormat
from calotype.diffusion import CFG, Conditioning, Denoiser, ScaledLinear
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.unet import UNetConfig
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.tasks import tile
from calotype.tasks.tile import Crop, TiledDenoiser, TiledLatentDiffusion, Tiling, crop_conditioning, tiled
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

TILING = Tiling(size=(4, 4), stride=(2, 2))
SIZES = [(8, 10), (9, 7), (4, 4), (3, 11), (5, 2)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tiling", [TILING, replace(TILING, crop_weights="central"), replace(TILING, stride=(3, 4))])
def test_crops_cover_every_size_to_the_border(tiling: Tiling, size: tuple[int, int]) -> None:
    covered = torch.zeros(size)
    for crop in tiling.crops(*size):
        part = crop.of(covered)
        assert part.shape == (min(4, size[0]), min(4, size[1]))
        part += 1
    assert covered.min() >= 1
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(tiled(lambda part, _: 2 * part, x, tiling), 2 * x)


@pytest.mark.parametrize("tiling", [TILING, replace(TILING, crop_weights="central", central_range=(0.1, 0.3))])
def test_the_sum_of_weights_is_the_fold_of_all_crops(tiling: Tiling) -> None:
    for scale in (1, 2, Fraction(1, 2)):
        weights = tiling.weights(8, 10, scale)
        assert weights.shape == (3 * 4, int(4 * scale), int(4 * scale))
        folded = F.fold(
            weights.flatten(1).T[None],
            (int(8 * scale), int(10 * scale)),
            kernel_size=int(4 * scale),
            stride=int(2 * scale),
        )
        torch.testing.assert_close(tiling.normalisation(8, 10, scale), folded[0, 0])


def test_positions_count_by_their_distance_to_the_border_of_the_crop() -> None:
    weights = replace(TILING, size=(5, 3), weight_range=(0.1, 0.3)).weights(5, 3)[0]
    expected = [[0.1, 0.1, 0.1], [0.1, 0.25, 0.1], [0.1, 0.3, 0.1], [0.1, 0.25, 0.1], [0.1, 0.1, 0.1]]
    torch.testing.assert_close(weights, torch.tensor(expected))


def test_positions_may_count_by_both_axes_so_that_crops_fade_at_the_borders_too() -> None:
    weights = replace(TILING, size=(5, 3), stride=(2, 1), weight_range=(0.1, 0.3), distance="both").weights(5, 4)
    expected = torch.tensor([0.1, 0.25, 0.3, 0.25, 0.1])[:, None] * torch.tensor([0.1, 0.3, 0.1])
    torch.testing.assert_close(weights, expected.expand(2, -1, -1))
    shares = weights[0, :, 1:] / (weights[0, :, 1:] + weights[1, :, :-1])
    torch.testing.assert_close(shares, shares[:1].expand(5, -1), msg="the same in every row")


def test_central_crops_may_count_more() -> None:
    central = replace(TILING, crop_weights="central", central_range=(0.1, 0.4))
    ratios = central.weights(8, 10)[:, 1, 1] / TILING.weights(8, 10)[:, 1, 1]
    third = 1 / 3
    torch.testing.assert_close(ratios, torch.tensor([0.1] * 4 + [0.1, third, third, 0.1] + [0.1] * 4))
    row = central.weights(4, 10)[:, 1, 1] / TILING.weights(4, 10)[:, 1, 1]
    torch.testing.assert_close(row, torch.tensor([0.1, third, third, 0.1]), msg="one row of crops has no upper border")


def test_overlapping_crops_are_averaged() -> None:
    x = torch.zeros(1, 1, 4, 6)
    averaged = tiled(lambda part, crop: torch.full_like(part, crop.left), x, TILING)
    assert averaged[0, 0, 1, :2].tolist() == [0, 0]
    assert averaged[0, 0, 1, 4:].tolist() == [2, 2]
    torch.testing.assert_close(averaged[0, 0, 1, 2], torch.tensor(2 * 0.01 / (1 / 3 + 0.01)))


@pytest.mark.parametrize("size", [(8, 12), (16, 4), (12, 20)])
def test_crops_may_change_scale(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *size)
    larger = tiled(lambda part, _: F.interpolate(part, scale_factor=2), x, TILING, 2)
    torch.testing.assert_close(larger, F.interpolate(x, scale_factor=2))
    smaller = tiled(lambda part, _: F.avg_pool2d(part, 2), x, TILING, Fraction(1, 2))
    torch.testing.assert_close(smaller, F.avg_pool2d(x, 2))
    with pytest.raises(ValueError, match="take a multiple of 3"):
        tiled(lambda part, _: F.avg_pool2d(part, 3), x, TILING, Fraction(1, 3))


class Seen:
    """A network that notes what it is given, and depends on position by position alone."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, x: Tensor, t: Tensor, **slots: Tensor) -> Tensor:
        self.calls.append({"x": x, **slots})
        return x * slots["context"].mean(dim=(1, 2)).view(-1, 1, 1, 1) + slots["concat"] + t.view(-1, 1, 1, 1)


def conditionings(height: int, width: int) -> tuple[Conditioning, Conditioning]:
    torch.manual_seed(0)
    return tuple(Conditioning(context=torch.randn(2, 3, 4), concat=torch.randn(2, 1, height, width)) for _ in range(2))


@pytest.mark.parametrize(("positions", "rows"), [(2**14, [48]), (2 * 4 * 16, [8, 8, 8, 8, 8, 8]), (1, [4] * 12)])
def test_a_tiled_denoiser_with_guidance_equals_the_whole_one(
    positions: int, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many crops the network is shown at once."""
    monkeypatch.setattr(tile, "POSITIONS", positions)
    x, t, both = torch.randn(2, 1, 7, 10), torch.tensor([500.0, 3.0]), conditionings(7, 10)
    network = Seen()
    whole = CFG(3.0)(Denoiser(network, ScaledLinear(), "v"), *both)(x, t)
    network.calls.clear()
    crops = CFG(3.0)(TiledDenoiser(network, ScaledLinear(), "v", tiling=TILING), *both)(x, t)
    assert [call["x"].shape for call in network.calls] == [(count, 1, 4, 4) for count in rows]
    assert all(call["concat"].shape == call["x"].shape for call in network.calls)
    torch.testing.assert_close(crops.x0, whole.x0)
    torch.testing.assert_close(crops.eps, whole.eps)


def test_an_image_condition_must_have_the_size_of_the_image() -> None:
    denoiser = TiledDenoiser(Seen(), ScaledLinear(), "eps", tiling=TILING)
    with pytest.raises(ValueError, match=r"concat must have the image's size \(8, 8\), not \(4, 4\)"):
        denoiser.output(torch.randn(2, 1, 8, 8), torch.tensor(3.0), conditionings(4, 4)[0])


def test_crops_may_have_conditions_of_their_own() -> None:
    """A layout tells each crop which part of the image it is."""
    tokens = LayoutConfig(classes=1, max_objects=1, tokens=25).build()
    objects = [LayoutObject(0, Box(0.0, 0.0, 1.0, 1.0))]

    def condition(whole: Conditioning, crop: Crop) -> Conditioning:
        context = torch.tensor(tokens.encode(objects, Box(*crop.relative))).float()
        return replace(crop_conditioning(whole, crop), context=context.expand(2, 1, -1))

    network = Seen()
    denoiser = TiledDenoiser(
        network, ScaledLinear(), "eps", tiling=Tiling(size=(4, 4), stride=(4, 4)), condition=condition
    )
    denoiser.output(torch.randn(2, 1, 8, 4), torch.tensor(3.0), conditionings(8, 4)[0])
    assert network.calls[0]["context"][::2, 0, -2:].tolist() == [[0, 14], [10, 24]]


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    torch.manual_seed(0)
    autoencoder = AutoencoderKLConfig(
        channels=32, channel_multipliers=(1, 1), num_res_blocks=1, resolution=16, attention="none"
    ).build()
    autoencoder.set_latent_statistics([0.1, 0.2, 0.3, 0.4], [2.0] * 4)
    network = UNetConfig(
        in_channels=4, out_channels=4, channels=32, channel_multipliers=(1, 1), num_res_blocks=1, attention_factors=(2,)
    ).build()
    torch.nn.init.normal_(network.out[2].weight, std=0.1)
    return LatentDiffusion(
        autoencoder=TrainedAutoencoder(autoencoder, PixelFormat(), 16),
        conditioner=ConditionerConfig().build(),
        network=network,
        schedule=ScaledLinear(),
        prediction="eps",
    )


def test_one_crop_of_the_whole_image_is_the_model_itself(model: LatentDiffusion) -> None:
    same = TiledLatentDiffusion(model, Tiling(size=(8, 8), stride=(4, 4)))
    torch.testing.assert_close(same.sample(seeds=[1, 2], steps=2), model.sample(seeds=[1, 2], steps=2))
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(same.encode(images), model.encode(images))


def test_large_images_are_drawn_encoded_and_decoded_in_crops(model: LatentDiffusion) -> None:
    large = TiledLatentDiffusion(model, Tiling(size=(8, 8), stride=(4, 4)))
    sizes: dict[str, set] = {"network": set(), "encoder": set(), "decoder": set()}
    parts = {"network": model.network, "encoder": model.autoencoder.encoder, "decoder": model.autoencoder.decoder}
    hooks = [
        part.register_forward_pre_hook(lambda _, inputs, name=name: sizes[name].add(tuple(inputs[0].shape[2:])))
        for name, part in parts.items()
    ]
    images = large.sample(seeds=[1], steps=2, size=(16, 28))
    assert images.shape == (1, 3, 16, 28)
    assert images.isfinite().all()
    assert images.abs().max() <= 1
    latents = large.encode(images)
    for hook in hooks:
        hook.remove()
    assert latents.shape == (1, 4, 8, 14)
    assert sizes == {"network": {(8, 8)}, "encoder": {(16, 16)}, "decoder": {(8, 8)}}


def test_tiles_must_fit_the_network(model: LatentDiffusion) -> None:
    with pytest.raises(UserError, match=r"tiles must be multiples of 2 latent positions, not \(7, 8\)"):
        TiledLatentDiffusion(model, Tiling(size=(7, 8), stride=(4, 4)))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"stride": [5, 2]}, "stride"),
        ({"stride": [2, 0]}, "stride"),
        ({"weight_range": [0.0, 0.5]}, "weight_range"),
        ({"central_range": [0.5, 0.1]}, "central_range"),
        ({"crop_weights": "tie"}, "crop_weights"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(change: dict[str, Any], field: str) -> None:
    assert from_dict(Tiling, to_dict(TILING)) == TILING
    with pytest.raises(UserError, match=rf"^config: .*{field}"):
        from_dict(Tiling, {**to_dict(TILING), **change})
