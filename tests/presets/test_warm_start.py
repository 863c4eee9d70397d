import pytest
import torch

from calotype.artifact import read_artifact
from calotype.chain.judge import judge_autoencoder
from calotype.data.emoji import emoji
from calotype.data.pixel_format import PixelFormat
from calotype.pipeline import load_autoencoder
from calotype.presets.autoencoders import AUTOENCODERS, AutoencoderPreset
from calotype.presets.autoencoders import WARM as FOLDER
from calotype.presets.warm_start import warm_start

WARM = [name for name, preset in AUTOENCODERS.items() if preset.starts_warm(3)]
LEAST = {"kl-f4-small": 25.0, "kl-f8-small": 18.0}
each = pytest.mark.parametrize("preset", [AUTOENCODERS[name] for name in WARM], ids=WARM)


def started(preset: AutoencoderPreset, channels: int) -> torch.nn.Module:
    initial = warm_start(preset, channels)
    model = preset.recipe(PixelFormat(channels=channels), 64).autoencoder.build().eval()
    assert initial is not None
    model.load_state_dict(initial.state)
    return model


def test_the_small_shapes_have_one_and_all_that_is_there_is_used() -> None:
    assert WARM == ["kl-f4-small", "kl-f8-small"]
    assert sorted(path.name for path in FOLDER.iterdir()) == WARM


@each
def test_it_is_small_and_says_where_it_comes_from(preset: AutoencoderPreset) -> None:
    folder = FOLDER / preset.name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    card = (folder / "MODEL_CARD.md").read_text()
    assert all(name in card for name in ("GPL-2+", "CC-BY", "CC-BY-SA", "mate-backgrounds"))


@each
def test_it_knows_images_that_it_was_not_trained_on(preset: AutoencoderPreset) -> None:
    held_out = emoji("faces").held_out_concepts
    found = judge_autoencoder(load_autoencoder(read_artifact(FOLDER / preset.name)), held_out)
    assert found.metrics["psnr"] > LEAST[preset.name]
    model = started(preset, 3)
    with torch.no_grad():
        again = model(found.originals)[0].clamp(-1, 1)
    assert torch.allclose(again, found.reconstructions, atol=1e-4)


@each
@torch.no_grad()
def test_grey_images_start_from_a_model_that_sees_them_in_three_channels(preset: AutoencoderPreset) -> None:
    grey, colour = started(preset, 1), started(preset, 3)
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    painted, latents = grey(images)
    expected, same = colour(images.expand(-1, 3, -1, -1))
    assert torch.allclose(latents, same, atol=1e-4)
    assert torch.allclose(painted, expected.mean(dim=1, keepdim=True), atol=1e-4)
    assert expected.std(dim=1).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "channels"), [("kl-f4-small", 4), ("vq-f4-small", 3), ("kl-f8-debug", 3), ("kl-f8", 3)]
)
def test_where_none_fits_there_is_none(name: str, channels: int) -> None:
    assert warm_start(AUTOENCODERS[name], channels) is None
    assert not AUTOENCODERS[name].starts_warm(channels)
