from dataclasses import replace

import pytest
import torch

from calotype.data.pixel_format import PixelFormat
from calotype.losses import NoPerceptualConfig, SqueezeNetPerceptualConfig, VGG16PerceptualConfig
from calotype.models.vq_model import VQModelConfig
from calotype.presets.autoencoders import AUTOENCODERS, AutoencoderPreset
from calotype.presets.released.first_stages import FIRST_STAGES
from calotype.training.autoencoder_recipe import AutoencoderRecipeConfig
from calotype.training.codebook import CodebookConfig
from calotype.utils.config import from_dict, to_dict

QUANTISED = [name for name in AUTOENCODERS if name.startswith(("vq", "fsq"))]
RELEASED = {row.name: row for row in FIRST_STAGES}

each = pytest.mark.parametrize("preset", AUTOENCODERS.values(), ids=AUTOENCODERS)


@each
def test_recipes_are_plain_data(preset: AutoencoderPreset) -> None:
    recipe = preset.recipe(PixelFormat(), 256)
    assert from_dict(AutoencoderRecipeConfig, to_dict(recipe)) == recipe
    assert isinstance(recipe.autoencoder, VQModelConfig) == (preset.name in QUANTISED)


@each
def test_they_build_for_any_number_of_channels(preset: AutoencoderPreset) -> None:
    recipe = preset.recipe(PixelFormat(channels=5), 64)
    assert not isinstance(recipe.loss.perceptual, SqueezeNetPerceptualConfig)
    with torch.device("meta"):
        model, discriminator = recipe.autoencoder.build(), recipe.loss.discriminator.build()
    assert model.decoder.conv_out.out_channels == 5 * recipe.autoencoder.space_to_depth**2
    assert discriminator.main[0].in_channels == 5


def test_our_codebooks_are_kept_in_use_and_the_references_are_left_as_they_were() -> None:
    for name in QUANTISED:
        codebook = AUTOENCODERS[name].recipe(PixelFormat(), 64).codebook
        if name in RELEASED:
            assert codebook == CodebookConfig(initial="random", average=None, restart_every=0)
        else:
            assert codebook.initial == "k_means"
            assert codebook.restart_every > 0


@pytest.mark.parametrize("name", RELEASED)
def test_released_shapes_are_trained_with_their_own_numbers(name: str) -> None:
    """Parameters, weights of the loss, PatchGAN and learning rate (4.5e-6 for every image) of the released model."""
    recipe, released = AUTOENCODERS[name].recipe(PixelFormat(), 256), RELEASED[name]
    with torch.device("meta"):
        assert sum(p.numel() for p in recipe.autoencoder.build().parameters()) == released.parameters
    original = released.original.loss
    own = {"perceptual": original.perceptual, "disc_start": original.disc_start}
    own |= {"reduction": "sum"} if name.startswith("kl") else {}
    assert replace(recipe.loss, **own) == original
    rate = 4.5e-6 * AUTOENCODERS[name].batch_size
    assert recipe.optimiser.learning_rate == recipe.discriminator_optimiser.learning_rate == pytest.approx(rate)


def test_the_discriminator_joins_where_it_did() -> None:
    joins = {name: round(AUTOENCODERS[name].disc_from, 3) for name in RELEASED}
    early = {"vq-f4": 0.0, "vq-f4-noattn": 0.0, "vq-f8": 0.0}
    late = {"kl-f4": 0.283, "kl-f8": 0.203, "kl-f16": 0.113, "kl-f32": 0.123, "vq-f8-n256": 0.155, "vq-f16": 0.227}
    assert joins == early | late


def test_ours_come_to_feel_it_by_and_by() -> None:
    for name in ("kl-f4-small", "kl-f8-small", "vq-f4-small", "fsq-f4-small"):
        recipe = AUTOENCODERS[name].recipe(PixelFormat(), 64)
        assert 0 < recipe.disc_ramp < 1 - recipe.disc_from


def test_a_file_of_vgg16_weights_takes_the_place_of_squeezenet() -> None:
    for name in ("kl-f8", "vq-f8"):
        assert AUTOENCODERS[name].recipe(PixelFormat(), 256, "a.pth").loss.perceptual == VGG16PerceptualConfig(
            weights="a.pth"
        )


def test_without_its_package_the_perceptual_loss_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calotype.presets.autoencoders.find_spec", lambda name: None)
    loss = AUTOENCODERS["vq-f4-small"].recipe(PixelFormat(), 64).loss
    assert (loss.perceptual, loss.perceptual_weight) == (NoPerceptualConfig(), 0.0)
