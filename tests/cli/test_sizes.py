"""Sizes that are no squares, and several at once, through the verbs."""

import json
from pathlib import Path

import numpy as np
import pytest

import calotype as ct
from calotype.artifact import read_artifact
from calotype.cli import run
from calotype.utils.images import read_image, save_image

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of 4 channels in 16 bits: eight of 48 x 32 pixels, four upright."""
    folder = tmp_path_factory.mktemp("wide")
    for index in range(12):
        height, width = (32, 48) if index < 8 else (48, 32)
        rows, columns = np.mgrid[:height, :width]
        waves = [np.sin(rows / (3 + channel) + index) * np.cos(columns / 5) for channel in range(4)]
        save_image(folder / f"{index}.tif", np.rint(2000 + 1900 * np.stack(waves, 2)).astype(np.uint16))
    return folder


@pytest.fixture(scope="module")
def trained(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages at 48 x 32 pixels, with the upright ones trained on as they are."""
    root = tmp_path_factory.mktemp("trained")
    data = ("--data", str(wide), "--samples", "16", *CPU)
    assert run(["train", "kl-f8-debug", *data, "--size", "48x32,32x48", "--out", str(root / "ae")]) == 0
    assert run(["train", "ldm-debug", *data, "--autoencoder", str(root / "ae"), "--out", str(root / "ldm")]) == 0
    return root


def test_the_artifact_knows_its_size(trained: Path) -> None:
    assert read_artifact(trained / "ae").config["size"] == [32, 48]
    run_config = json.loads((trained / "ae" / "config.json").read_text())["config"]
    assert run_config["recipe"]["transform"]["more_sizes"] == [[48, 32]]
    model = ct.load(trained / "ldm")
    assert isinstance(model, ct.LatentDiffusion)
    assert model.latent_shape() == (4, 4, 6)


def test_reconstructions_have_the_size_format_and_depth(wide: Path, trained: Path, tmp_path: Path) -> None:
    command = ["reconstruct", str(trained / "ae"), "--data", str(wide), *CPU]
    assert run([*command, "--out", str(tmp_path / "a")]) == 0
    assert run([*command, "--out", str(tmp_path / "b"), "--size", "16x24"]) == 0
    for folder, shape in (("a", (32, 48, 4)), ("b", (24, 16, 4))):
        pixels = read_image(tmp_path / folder / "0.tif", alpha="kept")
        assert (pixels.shape, pixels.dtype) == (shape, np.uint16)


def test_samples_have_the_size_and_what_was_clipped_is_said(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sample", str(trained / "ldm"), "--seeds", "0-1", "--steps", "1", "--out", str(tmp_path), *CPU]
    assert run([*command, "--size", "32x64"]) == 0
    assert read_image(tmp_path / "0.tif", alpha="kept").shape == (64, 32, 4)
    model = ct.load(trained / "ldm")
    assert isinstance(model, ct.LatentDiffusion)
    drawn = model.sample(seeds=range(2), steps=1, size=(64, 32), clip=False)
    clipped = model.pixel_format.to_file(drawn)[1]
    assert clipped > 0
    assert f"{clipped} of {drawn.numel()} values" in capsys.readouterr().out


def test_evaluation_is_by_channel(wide: Path, trained: Path, tmp_path: Path) -> None:
    command = ["evaluate", str(trained / "ae"), "--data", str(wide), "--split", "all", "--out", str(tmp_path), *CPU]
    assert run([*command, "--size", "32", "--most", "4"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["latents"]["shape"] == [4, 4, 4]
    channels = metrics["channels"]["channels"]
    assert len(channels) == 4
    assert all(80 <= each["low"] < each["high"] <= 3920 for each in channels)
