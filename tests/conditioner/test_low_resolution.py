from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from calotype.conditioner import ConditionerConfig, LowResolutionConfig, Widths
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

EQUAL = LowResolutionConfig(factor=4, autoencoder_factor=4)
LARGER = LowResolutionConfig(factor=2, autoencoder_factor=8)
SMALLER = LowResolutionConfig(factor=8, autoencoder_factor=2, image_channels=1)


@pytest.mark.parametrize("config", [EQUAL, LARGER, SMALLER])
def test_the_image_has_the_size_of_the_latents_whatever_the_ratio(config: LowResolutionConfig) -> None:
    height, width = 32, 48
    small = torch.rand(2, config.image_channels, height // config.factor, width // config.factor) * 2 - 1
    embedder = config.build()
    concat = embedder(embedder.prepare([small[0], small[1].numpy()], (height, width))).concat
    latents = height // config.autoencoder_factor, width // config.autoencoder_factor
    assert concat.shape == (2, config.widths(4).concat, *latents)
    assert ConditionerConfig(embedders=(config,)).widths(4) == Widths(concat=config.widths(7).concat)


def test_equal_is_as_it_is_larger_is_folded_and_smaller_is_enlarged() -> None:
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(EQUAL.build()(image).concat, image)
    folded = LARGER.build()(image).concat
    assert torch.equal(F.pixel_shuffle(folded, 4), image)
    wave = torch.sin(torch.arange(16) / 3).expand(1, 1, 16, 16)
    enlarged = SMALLER.build()(wave).concat
    centres = (torch.arange(64) + 0.5) / 4 - 0.5
    torch.testing.assert_close(enlarged[0, 0, 30, 8:-8], torch.sin(centres / 3)[8:-8], rtol=0, atol=2e-3)


def test_every_image_needs_a_value() -> None:
    embedder, image = EQUAL.build(), torch.zeros(3, 4, 4)
    assert not embedder.has_null
    for refused in (lambda: embedder.null(1, (16, 16)), lambda: embedder.prepare([image, None])):
        with pytest.raises(UserError, match=r"^low_resolution: this model needs a value for every image$"):
            refused()


@pytest.mark.parametrize(
    ("value", "size", "message"),
    [
        (torch.zeros(1, 4, 4), None, "low_resolution must be images of 3 x height x width in [-1, 1], not torch.float"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), None, "low_resolution must be images of 3 x height x width"),
        ("photo.png", None, "low_resolution must be images of 3 x height x width in [-1, 1], not str"),
        (torch.zeros(3, 4, 5), (16, 24), "low_resolution: these are of images of 20 x 16, not 24 x 16"),
    ],
)
def test_what_does_not_fit_is_refused(value: Any, size: tuple[int, int] | None, message: str) -> None:
    embedder = EQUAL.build()
    assert embedder.takes(value) == (size is not None)
    with pytest.raises(UserError) as refused:
        embedder.prepare([value], size)
    assert str(refused.value).startswith(message)


def test_a_configuration_that_cannot_be_built_is_refused() -> None:
    assert from_dict(ConditionerConfig, to_dict(ConditionerConfig(embedders=(LARGER,)))).embedders == (LARGER,)
    with pytest.raises(ValueError, match="factor must divide 4, or be a multiple of it, not 3"):
        replace(EQUAL, factor=3)
    with pytest.raises(ValueError, match="dropout must be 0"):
        replace(EQUAL, dropout=0.1)
    with pytest.raises(ValueError, match="image_channels must be at least 1"):
        replace(EQUAL, image_channels=0)


def test_a_paired_image_may_be_missing() -> None:
    embedder = LowResolutionConfig(field="sketch", factor=1, autoencoder_factor=4, null="zeros", dropout=0.1).build()
    image = torch.rand(3, 8, 16) * 2 - 1
    concat = embedder(embedder.prepare([image, None, image], (8, 16)), torch.tensor([False, False, True])).concat
    assert concat.shape == (3, 48, 2, 4)
    assert concat[0].abs().max() > 0
    assert concat[1:].abs().max() == 0
    assert torch.equal(embedder.prepare([None, None], (8, 16)), embedder.null(2, (8, 16)))
    assert embedder.has_null
    with pytest.raises(ValueError, match="dropout must be 0"):
        LowResolutionConfig(dropout=0.1)
