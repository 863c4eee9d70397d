import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from calotype.conditioner import ConditionerConfig, EncodedImage, EncodedImageConfig
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

CONFIG = EncodedImageConfig(latents="raw")
AUTOENCODER = AutoencoderKLConfig(
    channels=32, channel_multipliers=(1, 1), num_res_blocks=1, resolution=8, latent_channels=3, attention="none"
)
IMAGE = torch.linspace(-1, 1, 3 * 8 * 8).view(3, 8, 8)
KNOWN = torch.ones(1, 8, 8)
KNOWN[:, 2:5, :3] = 0


@pytest.fixture(scope="module")
def autoencoder() -> torch.nn.Module:
    torch.manual_seed(0)
    model = AUTOENCODER.build().eval().requires_grad_(False)
    model.set_latent_statistics([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
    return model


def attached(config: EncodedImageConfig, autoencoder: torch.nn.Module) -> EncodedImage:
    conditioner = ConditionerConfig(embedders=(config,)).build()
    conditioner.attach(autoencoder)
    return conditioner.embedders[config.field]


def test_the_hole_is_black_in_the_image_and_one_in_the_mask(autoencoder) -> None:
    embedder = attached(CONFIG, autoencoder)
    concat = embedder(embedder.prepare([(IMAGE, KNOWN)])).concat
    masked = torch.where(KNOWN > 0, IMAGE, -1.0)[None]
    assert torch.equal(concat[:, :3], autoencoder.encode(masked).mode())
    nearest = KNOWN[:, ::2, ::2]
    assert torch.equal(concat[0, 3:], 1 - 2 * nearest)
    assert {-1.0, 1.0} == set(concat[0, 3].flatten().tolist())


def test_latents_may_be_those_of_the_network(autoencoder) -> None:
    raw, normalised = (attached(replace(CONFIG, latents=latents), autoencoder) for latents in ("raw", "normalised"))
    inputs = raw.prepare([(IMAGE, KNOWN)])
    expected = autoencoder.normalise(raw(inputs).concat[:, :3])
    torch.testing.assert_close(normalised(inputs).concat[:, :3], expected)


def test_of_a_dropped_or_missing_image_nothing_is_known(autoencoder) -> None:
    embedder = attached(CONFIG, autoencoder)
    values = [(IMAGE, KNOWN), None, (IMAGE, KNOWN.numpy() > 0)]
    concat = embedder(embedder.prepare(values), torch.tensor([True, False, False])).concat
    assert torch.equal(concat[0], concat[1])
    assert concat[:2, 3].min() == 1
    torch.testing.assert_close(concat[:1, :3], autoencoder.encode(-torch.ones(1, 3, 8, 8)).mode())
    torch.testing.assert_close(concat[2:], embedder(embedder.prepare(values[:1])).concat)


def test_the_autoencoder_is_shared_but_not_a_part(autoencoder) -> None:
    embedder = attached(CONFIG, autoencoder)
    assert not embedder.state_dict()
    assert not list(embedder.modules())[1:]
    copied, calls = copy.deepcopy(embedder), []
    hook = autoencoder.encoder.register_forward_hook(lambda *_: calls.append(1))
    copied(embedder.prepare([(IMAGE, KNOWN)]))
    hook.remove()
    assert calls == [1]


def test_without_an_autoencoder_there_is_an_error() -> None:
    embedder = CONFIG.build()
    with pytest.raises(ValueError, match="attach"):
        embedder(embedder.prepare([(IMAGE, KNOWN)]))


def test_a_missing_image_has_no_size_of_its_own() -> None:
    for refused in (
        lambda: CONFIG.build().null(1),
        lambda: CONFIG.build().prepare([None]),
        lambda: replace(CONFIG, null="none").build().prepare([(IMAGE, KNOWN), None]),
    ):
        with pytest.raises(UserError, match=r"^masked_image: this model needs a value for every image$"):
            refused()


@pytest.mark.parametrize(
    "value",
    [
        IMAGE,
        (IMAGE,),
        (IMAGE, KNOWN[0]),
        (IMAGE, KNOWN[:, :4]),
        (IMAGE[0], KNOWN),
        (((IMAGE + 1) * 127.5).to(torch.uint8), KNOWN),
        ("photo.png", "mask.png"),
    ],
)
def test_what_is_no_pair_is_refused(value: Any) -> None:
    embedder = CONFIG.build()
    assert not embedder.takes(value)
    with pytest.raises(UserError, match=r"^masked_image must be pairs: an image .* in \[-1, 1\], its mask "):
        embedder.prepare([value])


def test_a_configuration_that_cannot_be_built_is_refused() -> None:
    assert from_dict(EncodedImageConfig, to_dict(CONFIG)) == CONFIG
    with pytest.raises(UserError, match=r"^config: .*dropout must be 0"):
        from_dict(EncodedImageConfig, {**to_dict(CONFIG), "null": "none", "dropout": 0.1})
