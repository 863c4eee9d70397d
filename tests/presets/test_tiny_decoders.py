import pytest

from calotype.cli import run
from calotype.models.tiny_decoder import TinyDecoderConfig
from calotype.presets import TINY_DECODERS, find_preset
from calotype.utils.config import from_dict, to_dict


def millions(config: TinyDecoderConfig) -> float:
    return sum(value.numel() for value in config.build().parameters()) / 1e6


@pytest.mark.parametrize("name", TINY_DECODERS)
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6, 8, 12, 16, 32])
def test_it_fits_every_autoencoder(name: str, factor: int) -> None:
    config = TINY_DECODERS[name].recipe(factor, 16, 5).decoder
    assert (config.factor, config.latent_channels, config.image_channels) == (factor, 16, 5)
    assert from_dict(TinyDecoderConfig, to_dict(config)) == config


@pytest.mark.parametrize("name", TINY_DECODERS)
def test_it_is_tiny_and_smaller_for_larger_latents(name: str) -> None:
    f4, f8 = (millions(TINY_DECODERS[name].recipe(factor, 4, 3).decoder) for factor in (4, 8))
    assert f4 < f8 < 1.2
    assert millions(TINY_DECODERS["tiny-decoder"].recipe(8, 4, 3).decoder) < 0.2


def test_levels_narrow_towards_the_image() -> None:
    assert TINY_DECODERS["tiny-decoder"].recipe(32, 4, 3).decoder.widths == (64, 64, 64, 48, 32)
    assert TINY_DECODERS["tiny-decoder"].recipe(4, 4, 3).decoder.widths == (48, 32)


def test_they_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert find_preset("tiny-decoder") is TINY_DECODERS["tiny-decoder"]
    assert run(["presets"]) == 0
    assert {"tiny-decoder", "tiny-decoder-large"} <= {
        line.split()[0] for line in capsys.readouterr().out.split("\n") if line
    }
    assert run(["presets", "tiny-decoder"]) == 0
    assert "calotype train tiny-decoder --autoencoder RUN --data" in capsys.readouterr().out
    assert run(["presets", "tiny-decodr"]) == 2
    assert "Did you mean 'tiny-decoder'?" in capsys.readouterr().err
