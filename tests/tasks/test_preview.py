"""Latents on their way, seen cheaply: by a tiny decoder, by the linear map, and from the command line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import calotype as ct
from calotype.artifact import read_artifact, write_artifact
from calotype.cli import run
from calotype.models.latent_rgb import LatentToRGB
from calotype.pipeline import LatentDiffusion
from calotype.tasks.preview import preview, tiny_decoder_for
from calotype.training.trainer import Trainer
from calotype.utils.config import to_dict
from calotype.utils.errors import UserError
from calotype.utils.images import image_grid, read_image
from tiny import SIZE, autoencoder_artifact, diffusion_recipe, settings, tiny_decoder_recipe

RGB = LatentToRGB(weight=((0.5, 0.0, 0.0, 0.0), (0.0, 0.5, 0.0, 0.0), (0.0, 0.0, 0.5, 0.1)), bias=(0.1, 0.0, -0.1))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an autoencoder that has a linear map, a diffusion model on it, and a tiny decoder of it."""
    root = tmp_path_factory.mktemp("previews")
    plain = autoencoder_artifact(root / "plain")
    config = {**plain.config, "latent": {**plain.config["latent"], "rgb": to_dict(RGB)}}
    components = {"autoencoder": plain.weights("autoencoder")}
    write_artifact(root / "ae", kind="autoencoder", config=config, components=components, provenance={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calotype.training.diffusion_recipe.PREVIEW_STEPS", 2)
        for name, recipe in (("ldm", diffusion_recipe(root / "ae")), ("tiny", tiny_decoder_recipe(root / "ae"))):
            Trainer(settings(root / name, samples=8)).fit(recipe, recipe.train)
    return root


@pytest.fixture(scope="module")
def model(runs: Path) -> LatentDiffusion:
    return ct.load(runs / "ldm")


def test_the_map_gives_enlarged_colours(model: LatentDiffusion) -> None:
    latents = torch.randn(2, 4, 8, 4)
    expected = F.interpolate(RGB(latents), scale_factor=2.0, mode="bilinear").clamp(-1, 1)
    found = preview(model, latents)
    assert found.shape == model.decode(latents).shape == (2, 3, 16, 8)
    torch.testing.assert_close(found, expected)


def test_the_tiny_decoder_is_asked_where_there_is_one(model: LatentDiffusion, runs: Path) -> None:
    tiny, latents = tiny_decoder_for(model, runs / "tiny"), 3 * torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(preview(model, latents, tiny), ct.load(runs / "tiny")(latents).clamp(-1, 1))


def test_another_autoencoder_is_noticed(runs: Path) -> None:
    other = ct.load(runs / "ldm")
    other.autoencoder.latent_scale[1] *= 1.001
    with pytest.raises(UserError, match="was distilled from another autoencoder"):
        tiny_decoder_for(other, runs / "tiny")
    with pytest.raises(UserError, match="holds an autoencoder, but a tiny decoder is needed"):
        tiny_decoder_for(other, runs / "ae")


def test_without_a_map_a_tiny_decoder_is_asked_for(runs: Path) -> None:
    model = ct.load(runs / "ldm")
    model.first_stage = replace(model.first_stage, rgb=None)
    with pytest.raises(UserError, match="give a tiny decoder"):
        preview(model, torch.zeros(1, 4, 8, 8))


def test_sampling_shows_every_state(model: LatentDiffusion) -> None:
    seen: list[ct.State] = []
    options = {"seeds": [1, 2, 3], "steps": 4, "batch_size": 2}
    images = model.sample(**options, watch=seen.append)
    assert [len(state.x) for state in seen] == [2] * 4 + [1] * 4
    torch.testing.assert_close(model.decode(seen[3].x), images[:2])
    torch.testing.assert_close(seen[3].x0, seen[3].x)
    assert torch.equal(model.sample(**options), images)


@pytest.mark.parametrize("tiny", [False, True])
def test_sample_writes_a_picture_per_step(
    tiny: bool, model: LatentDiffusion, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "steps"
    more = ["--tiny", str(runs / "tiny")] if tiny else []
    command = ["sample", str(runs / "ldm"), "--seeds", "5-6", "--steps", "10", "--previews", str(folder), *more]
    assert run([*command, "--grid", str(tmp_path / "grid.png"), "--device", "cpu"]) == 0
    assert f"previews: {folder}" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [f"{step:02}.png" for step in range(1, 11)]

    seen: list[ct.State] = []
    model.sample(seeds=[5, 6], steps=10, watch=seen.append)
    decoder = tiny_decoder_for(model, runs / "tiny") if tiny else None
    for step in (1, 10):
        expected = image_grid(preview(model, seen[step - 1].x0[:1], decoder), columns=1, padding=0)
        difference = read_image(folder / f"{step:02}.png").astype(int) - expected
        assert abs(difference).max() <= 1


def test_the_command_distils_one(picture_folder: Path, runs: Path, tmp_path: Path) -> None:
    command = ["train", "tiny-decoder", "--data", str(picture_folder), "--samples", "16", "--device", "cpu"]
    for name in ("ae", "ldm"):
        assert run([*command, "--autoencoder", str(runs / name), "--out", str(tmp_path / name)]) == 0
        tiny = ct.load(tmp_path / name)
        assert tiny(torch.randn(1, 4, 8, 8)).shape == (1, 3, SIZE, SIZE)
        assert read_artifact(tmp_path / name).kind == "tiny_decoder"


def test_a_tiny_decoder_is_no_autoencoder(
    picture_folder: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "tiny-decoder", "--data", str(picture_folder), "--samples", "16", "--out", str(tmp_path / "o")]
    assert run([*command, "--autoencoder", str(runs / "tiny")]) == 2
    assert "holds no autoencoder to imitate" in capsys.readouterr().err
