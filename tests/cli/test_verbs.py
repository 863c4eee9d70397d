"""What the verbs do when all is well."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import calotype as ct
import tiny
from calotype.artifact import read_artifact
from calotype.cli import run
from calotype.data import scan_folder
from calotype.presets import AUTOENCODERS, DIFFUSION
from calotype.utils.files import read_json
from calotype.utils.images import read_image, save_png

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve 16-bit grey pictures in two classes."""
    folder = tmp_path_factory.mktemp("scans")
    for index in range(12):
        grey = tiny.Pictures(1, first=index).pixels(0)[..., index % 3].astype(np.uint16) * 257 + 7
        save_png(folder / ("left", "right")[index % 2] / f"{index}.png", grey)
    return folder


@pytest.fixture(scope="module")
def trained(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both stages, trained on the scans by their debug presets."""
    root = tmp_path_factory.mktemp("trained")
    data = ("--data", str(scans), "--samples", "16", *CPU)
    assert run(["train", "kl-f8-debug", *data, "--size", "16", "--out", str(root / "ae")]) == 0
    assert run(["train", "ldm-debug", *data, "--autoencoder", str(root / "ae"), "--out", str(root / "ldm")]) == 0
    return root


def test_train_makes_what_load_reads(trained: Path) -> None:
    autoencoder, model = ct.load(trained / "ae"), ct.load(trained / "ldm")
    assert isinstance(autoencoder, ct.TrainedAutoencoder)
    assert autoencoder.pixel_format == ct.PixelFormat(channels=1, dtype="uint16", high=65535.0)
    assert isinstance(model, ct.LatentDiffusion)
    assert model.conditioner.fields == ("class",)


def test_a_transformer_by_the_same_commands(trained: Path, scans: Path, tmp_path: Path) -> None:
    command = ["train", "dit-small", "--data", str(scans), "--autoencoder", str(trained / "ae"), *CPU]
    few = ["--samples", "8", "--batch-size", "4", "--ema-snapshots", "2"]
    assert run([*command, *few, "--out", str(tmp_path / "dit")]) == 0
    model = ct.load(tmp_path / "dit")
    assert isinstance(model.network, ct.DiT)
    with pytest.raises(ct.UserError, match="a network of the class DiT: diffusers has no image of it"):
        ct.export_diffusers(model, tmp_path / "diffusers")
    assert run(["ema", str(tmp_path / "dit"), "--width", "0.08", "--out", str(tmp_path / "wider")]) == 0
    asked = ["sample", str(tmp_path / "wider"), "--class", "left", "--steps", "2", "--seeds", "0", *CPU]
    assert run([*asked, "--size", "32", "--out", str(tmp_path)]) == 0
    assert read_image(tmp_path / "0.png").shape == (32, 32, 1)


def test_snapshots_are_for_diffusion(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "kl-f8-debug", "--data", str(scans), "--out", str(tmp_path / "ae"), "--ema-snapshots"]
    assert run([*command, "3"]) == 2
    assert "--ema-snapshots is for diffusion models" in capsys.readouterr().err
    assert run(["train", "dit-small", "--data", str(scans), "--autoencoder", "emoji", "--ema-snapshots", "-1"]) == 2
    assert "--ema-snapshots must not be negative: -1" in capsys.readouterr().err


def test_train_again_goes_on(trained: Path, scans: Path, caplog: pytest.LogCaptureFixture) -> None:
    command = ["train", "kl-f8-debug", "--data", str(scans), "--size", "16", "--out", str(trained / "ae"), *CPU]
    with caplog.at_level(logging.INFO, logger="calotype"):
        assert run(command) == 0
    assert f"resuming {trained / 'ae'} at 16 of 16 images" in caplog.messages
    assert run([*command, "--samples", "24"]) == 2


def test_a_folder_is_enough(
    scans: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Preset, size and folder are chosen and said, and what to type next."""
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, logger="calotype"):
        assert run(["train", str(scans), "--samples", "8", "--batch-size", "8", *CPU]) == 0
    said = " ".join(caplog.messages)
    assert "32 px: the images have 16, but this is the least" in said
    assert "kl-f4-small: for a CPU in" in said
    assert "all goes to runs/" in said
    assert read_artifact(Path("runs") / f"{scans.name}-autoencoder").kind == "autoencoder"
    last = capsys.readouterr().out.splitlines()[-1].split(": calotype ")[1].split()
    assert last == ["train", str(scans), "--autoencoder", f"runs/{scans.name}-autoencoder"]


def test_sample_writes_the_depth_of_the_data(trained: Path, tmp_path: Path) -> None:
    command = ["sample", str(trained / "ldm"), "--seeds", "4,6-7", "--steps", "2", "--out", str(tmp_path), *CPU]
    assert run([*command, "--class", "left"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4.png", "6.png", "7.png"]
    pixels = read_image(tmp_path / "4.png")
    assert (pixels.shape, pixels.dtype) == ((16, 16, 1), np.uint16)


def test_a_class_changes_the_sample_and_is_checked(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sample", str(trained / "ldm"), "--seeds", "0", "--steps", "2", "--guidance", "3", *CPU]
    for label in ("left", "right"):
        assert run([*command, "--class", label, "--out", str(tmp_path / label)]) == 0
    left, right = (read_image(tmp_path / label / "0.png").astype(int) for label in ("left", "right"))
    assert np.abs(left - right).max() > 0
    assert run([*command, "--class", "lift"]) == 2
    assert "class 'lift' is unknown. Did you mean 'left'?" in capsys.readouterr().err


def test_raw_weights_are_other_weights(trained: Path, tmp_path: Path) -> None:
    command = ["sample", str(trained / "ldm"), "--seeds", "0", "--steps", "2", *CPU]
    assert run([*command, "--out", str(tmp_path / "ema")]) == 0
    assert run([*command, "--out", str(tmp_path / "raw"), "--raw"]) == 0
    averaged, raw = (read_image(tmp_path / name / "0.png").astype(int) for name in ("ema", "raw"))
    assert np.abs(averaged - raw).max() > 0


def test_unknown_words_are_named(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", str(chain), "--seeds", "0", "--steps", "1", "--grid", str(tmp_path / "grid.png"), *CPU]
    assert run([*command, "--caption", "a red zeppelin"]) == 0
    assert "words this model has never seen, left out: zeppelin" in capsys.readouterr().out


def test_latents_are_encoded_once(
    trained: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["latents", str(scans), "--autoencoder", str(trained / "ae"), "--out", str(tmp_path), *CPU]
    assert run(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"9 training images, latents 4x2x2, in {tmp_path}",
        f"3 held-out images, latents 4x2x2, in {tmp_path}",
    ]
    stores = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.safetensors")}
    assert len(stores) == 2
    assert run(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*.safetensors")} == stores


def test_reconstruct_gives_back_names_and_depth(
    trained: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reconstruct", str(trained / "ldm"), "--data", str(scans), "--out", str(tmp_path), "--most", "5", *CPU]
    assert run(command) == 0
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert names == ["left/0.png", "left/10.png", "left/2.png", "left/4.png", "left/6.png", "side_by_side.png"]
    pixels = read_image(tmp_path / "left" / "0.png")
    assert (pixels.shape, pixels.dtype) == ((16, 16, 1), np.uint16)
    assert Image.open(tmp_path / "side_by_side.png").size == (5 * 18 + 2, 2 * 18 + 2)
    assert "over 5 images" in capsys.readouterr().out


def test_evaluate_measures_with_protocols(
    trained: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "judged"
    command = ["evaluate", str(trained / "ldm"), "--data", str(scans), "--samples", "4", "--out", str(out), *CPU]
    assert run(command) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert f"{metrics['reconstruction']['psnr']:.2f} dB" in shown
    assert metrics["training conditions"]["kid"]["protocol"].startswith("4 images against the training images (9).")
    assert metrics["unseen images"]["class_agreement"]["n"] == 3
    assert metrics["copies"]["n_samples"] == 4
    assert "KID-EffLite0 against training images" in (out / "report.html").read_text()


def test_evaluate_an_autoencoder(trained: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(trained / "ae"), "--data", str(scans), *CPU]) == 0
    first, *table, last = capsys.readouterr().out.splitlines()
    assert first == f"AutoencoderKL, 1x16x16 to 4x2x2, on 3 held-out images of {scans}"
    measures = [line.split("  ")[0] for line in table]
    assert measures[:3] == ["PSNR", "PSNR, worst 5 %", "SSIM"]
    assert measures[-1] == "rFD and rKID"
    assert table[-1].endswith("not available for 3 images: they need 6")
    out = trained / "ae-evaluation"
    assert last == f"report: {out / 'report.html'}, numbers with their protocols: {out / 'metrics.json'}"
    assert json.loads((out / "metrics.json").read_text())["latents"]["shape"] == [4, 2, 2]


def test_evaluate_on_all_images_of_a_folder(trained: Path, scans: Path, tmp_path: Path) -> None:
    command = ["evaluate", str(trained / "ae"), "--data", str(scans), "--split", "all", *CPU]
    for name, options in (("all", ()), ("some", ("--most", "7"))):
        assert run([*command, *options, "--out", str(tmp_path / name)]) == 0
    metrics = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/metrics.json")}
    assert metrics["all"]["distances"]["EffLite0"]["rfd"]["n"] == 12
    assert metrics["some"]["reconstruction"]["n"] == 7


def test_data_check_lists_what_is_there_and_what_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(8):
        save_png(tmp_path / f"{index}.png", np.full((40, 50, 3), 30 * index, np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert run(["data", "check", str(tmp_path), "--size", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}: 8 images, 1 other entries left out"
    assert "pixels: 3 channels of uint8" in lines
    assert lines[-1] == "  broken.png: not an image"


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["presets"]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [[name, "autoencoder"] for name in AUTOENCODERS] + [[name, "diffusion"] for name in DIFFUSION] == [
        row for row in rows if row[1] in ("autoencoder", "diffusion")
    ]


def test_run_says_where_everything_is(
    chain: Path, picture_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("calotype.chain.run.run_chain", lambda *_, **__: chain / "report.html")
    assert read_artifact(chain).config["conditioner"]["embedders"][0]["field"] == "caption"
    assert run(["run", str(picture_folder), "--out", str(chain)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"samples: {chain / 'samples.png'}",
        f"report: {chain / 'report.html'}",
        f'draw more: calotype sample {chain} --caption "..." --seeds 0-15 --grid grid.png',
    ]


def test_evaluate_measures_bits_per_value(
    trained: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(trained / "ae"), "--data", str(scans), "--likelihood", *CPU, "--out", str(tmp_path)]
    assert run([*command, "--split", "all"]) == 2
    assert "leave --split at held-out" in capsys.readouterr().err
    assert run(command) == 0
    assert "bits per value, standard normal latents" in capsys.readouterr().out
    found = read_json(tmp_path / "metrics.json")["likelihood"]
    assert (found["n"], found["dims"], found["levels"]) == (3, 256, [65536])
    assert found["standard_normal"]["value"] > 8, "untrained, on 16 bits"
    assert "training images" in found["protocol"]


def test_pixel_space_needs_no_autoencoder(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command = ["train", "ldm-debug", "--autoencoder", "none", "--data", str(scans), "--size", "16", *CPU]
    assert run([*command, "--samples", "8", "--out", str(out)]) == 0
    assert run([*command, "--samples", "8", "--out", str(out)]) == 0, "it goes on"
    model = ct.load(out)
    assert isinstance(model, ct.LatentDiffusion)
    assert isinstance(model.autoencoder, ct.IdentityAutoencoder)
    assert model.pixel_format == ct.PixelFormat(channels=1, dtype="uint16", high=65535.0)
    train = ct.Loader(scan_folder(scans).images, ct.Transform(size=16))
    latents = model.encode(torch.cat([batch.images for batch in train.all()]))
    assert latents.mean().item() == pytest.approx(0, abs=0.2), "normalised by the training images, as latents are"
    assert latents.std().item() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(model.decode(latents), next(iter(train.all())).images, rtol=0, atol=1e-5)
    assert run(["sample", str(out), "--seeds", "0", "--steps", "2", "--out", str(tmp_path / "drawn"), *CPU]) == 0
    assert read_image(tmp_path / "drawn" / "0.png").dtype == np.uint16
