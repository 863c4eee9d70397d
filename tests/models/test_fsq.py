import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from calotype.models.quantisers import FSQConfig, QuantiserConfig, VectorQuantizer2Config
from calotype.models.quantisers.fsq import FSQ
from calotype.models.vq_model import VQModelConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

GRID = FSQConfig(levels=(3, 4, 5, 6))
VALUES = ([-1, 0, 1], [-1, -0.5, 0, 0.5], [-1, -0.5, 0, 0.5, 1], [-1, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3])
MODEL = VQModelConfig(
    resolution=16, channels=8, channel_multipliers=(1, 2), num_res_blocks=1, latent_channels=4, quantiser=GRID
)


def grid() -> FSQ:
    return GRID.build(4).double()


def latents(std: float = 3.0) -> Tensor:
    return std * torch.randn(5, 4, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_there_is_a_code_for_every_choice_of_levels() -> None:
    quantiser = grid()
    assert GRID.codes == quantiser.codes == 3 * 4 * 5 * 6
    codes = quantiser.look_up(torch.arange(360))
    assert len(codes.unique(dim=0)) == 360
    for channel, values in enumerate(VALUES):
        assert codes[:, channel].unique().tolist() == pytest.approx(values)
    assert codes[:4, 0].tolist() == [-1, 0, 1, -1], "the first channel's level changes fastest"
    assert torch.equal(codes[0], torch.tensor([-1.0] * 4, dtype=torch.float64))


def test_numbers_and_codes_lead_to_each_other() -> None:
    quantiser = grid()
    indices = torch.arange(360).view(2, 18, 10)
    codes = quantiser.get_codebook_entry(indices)
    again = quantiser(codes)
    assert torch.equal(again.indices, indices)
    torch.testing.assert_close(again.z, codes)
    assert torch.equal(quantiser.get_codebook_entry(indices.flatten(), (2, 18, 10)), codes)
    with pytest.raises(ValueError, match="do not fill"):
        quantiser.get_codebook_entry(indices.flatten())


def test_each_channel_takes_its_nearest_level() -> None:
    quantiser, z = grid(), latents(std=0.7)
    quantised = quantiser(z)
    for channel, values in enumerate(VALUES):
        levels = torch.tensor(values, dtype=torch.float64)
        nearest = levels[(z[:, channel, ..., None] - levels).abs().argmin(dim=-1)]
        torch.testing.assert_close(quantised.z[:, channel], nearest)
    assert quantised.loss == 0
    assert quantised.indices.shape == (5, 6, 7)


def test_bounds_are_those_of_the_paper() -> None:
    """Zero stays zero, the outermost levels are reached and none is passed."""
    quantiser = grid()
    bounded = quantiser.bound(latents())
    assert bounded.abs().max() < 1
    lowest, highest = (torch.tensor([pick(values) for values in VALUES]).double() for pick in (min, max))
    zero = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(quantiser.bound(zero), zero, atol=1e-12, rtol=0)
    far = quantiser.bound(torch.tensor([-50.0, 50.0], dtype=torch.float64).view(2, 1, 1, 1).expand(2, 4, 1, 1))
    torch.testing.assert_close(far[:, :, 0, 0], torch.stack([lowest, highest]), atol=2e-3, rtol=0)
    even, odd = bounded[:, 1], bounded[:, 2]
    shift = math.atanh(0.5 / 1.4985)
    torch.testing.assert_close(even, (torch.tanh(latents()[:, 1] + shift) * 1.4985 - 0.5) / 2)
    torch.testing.assert_close(odd, torch.tanh(latents()[:, 2]) * 1.998 / 2)


def test_every_code_can_be_said_by_an_encoder() -> None:
    quantiser = grid()
    said = 2 * torch.randn(60, 4, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert len(quantiser(quantiser.bound(said)).indices.unique()) == 360


def test_gradients_pass_straight_through_the_rounding() -> None:
    quantiser, z, weight = grid(), latents().requires_grad_(), latents()
    (gradient,) = torch.autograd.grad((quantiser(z).z * weight).sum(), z)
    assert torch.equal(gradient, weight)
    (through,) = torch.autograd.grad((quantiser(quantiser.bound(z)).z * weight).sum(), z)
    (soft,) = torch.autograd.grad((quantiser.bound(z) * weight).sum(), z)
    torch.testing.assert_close(through, soft)


def test_numbers_of_a_large_grid_are_exact() -> None:
    large, indices = FSQConfig(levels=(1000,) * 6).build(6).double(), torch.tensor([[[0, 1, 10**18 - 1, 10**17 + 3]]])
    assert torch.equal(large(large.get_codebook_entry(indices)).indices, indices)


def test_there_is_nothing_to_store() -> None:
    assert not grid().state_dict()
    assert not list(grid().parameters())
    assert not [name for name in MODEL.build().state_dict() if "quantize" in name]


def test_latents_of_the_autoencoder_are_bounded_and_decoded_through_codes(randomised) -> None:
    model = randomised(MODEL.build())
    images = torch.randn(2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    raw, latents = model.latent_parameters(images), model.encode(images).mode()
    assert torch.equal(latents, model.quantize.bound(raw))
    assert latents.abs().max() < 1 < raw.abs().max()
    reconstruction, quantised = model(images)
    assert torch.equal(reconstruction, model.decode(latents))
    torch.testing.assert_close(model.quantize.get_codebook_entry(quantised.indices), quantised.z)
    entry = model.quantize.get_codebook_entry(quantised.indices)
    torch.testing.assert_close(model.decode(entry, quantise=False), reconstruction)
    torch.testing.assert_close(model.decode(entry), reconstruction, msg="codes are their own nearest")
    assert torch.autograd.grad(reconstruction.sum(), model.encoder.conv_in.weight)[0].any()


def test_it_learns_its_images() -> None:
    torch.manual_seed(0)
    model = replace(MODEL, attention="none").build()
    images = torch.tensor([0.8, -0.8])[:, None, None, None].expand(2, 3, 8, 8)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    errors = []
    for _ in range(60):
        error = (model(images)[0] - images).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < 0.1 * errors[0]


def test_its_configuration_survives_a_round_trip_by_its_kind() -> None:
    assert from_dict(QuantiserConfig, to_dict(GRID)) == GRID
    assert from_dict(VQModelConfig, to_dict(MODEL)) == MODEL


@pytest.mark.parametrize("levels", [(), (5, 2), (4,) * 32])
def test_levels_that_make_no_grid_are_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="levels"):
        from_dict(QuantiserConfig, {"kind": "fsq", "levels": levels})


def test_latents_have_one_channel_for_each_level() -> None:
    with pytest.raises(ValueError, match=r"latent_channels must be .* 3 is not 4, that of levels \(3, 4, 5, 6\)"):
        replace(MODEL, latent_channels=3)
    with pytest.raises(ValueError, match="3 is not 4"):
        GRID.build(3)
    assert replace(MODEL, latent_channels=3, quantiser=VectorQuantizer2Config(codes=5)).latent_channels == 3
