"""Reconstructions come back as what the files were: an autoencoder that changes nothing shows it bit by bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import calotype as ct
from calotype.artifact import write_artifact
from calotype.cli import run
from calotype.data.folder import scan_folder
from calotype.models.autoencoder import IdentityAutoencoderConfig
from calotype.utils.config import to_dict
from calotype.utils.images import load_image, save_png

SIZE = 16
CPU = ("--device", "cpu")


def picture(number: int, channels: int) -> np.ndarray:
    """A square in [0, 1] that uses all of it."""
    values = np.random.default_rng(number).random((SIZE, SIZE, channels))
    return (values - values.min()) / (values.max() - values.min())


def identity(folder: Path, pixel_format: ct.PixelFormat) -> Path:
    config = {
        "autoencoder": to_dict(IdentityAutoencoderConfig(image_channels=pixel_format.channels)),
        "pixel_format": to_dict(pixel_format),
        "size": SIZE,
        "latent": {"shift": [0.0] * pixel_format.channels, "scale": [1.0] * pixel_format.channels},
    }
    weights: dict[str, Any] = {"autoencoder": {}, "autoencoder_ema": {}}
    write_artifact(folder, kind="autoencoder", config=config, components=weights, provenance={})
    return folder


def write(path: Path, values: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig" if values.ndim == 3 else None)
    else:
        save_png(path, values)


@pytest.mark.parametrize(
    ("suffix", "channels", "dtype", "scale"),
    [
        (".png", 1, "uint8", 255),
        (".png", 3, "uint8", 255),
        (".png", 1, "uint16", 65_535),
        (".png", 3, "uint16", 65_535),
        (".tif", 1, "uint16", 4_095),
        (".tif", 4, "uint8", 255),
        (".tif", 4, "uint16", 65_535),
        (".tif", 4, "float32", 3.5),
        (".tif", 1, "int16", 1_200),
        (".npy", 13, "uint16", 9_000),
        (".npy", 13, "float32", 1),
    ],
)
def test_the_same_files_come_back(tmp_path, capsys, suffix, channels, dtype, scale):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(9):
        values = (picture(i, channels) * scale).astype(dtype)
        write(data / f"{i}{suffix}", values[..., 0] if channels == 1 else values)
    model = identity(tmp_path / "model", scan_folder(data).images.pixel_format)
    assert run(["reconstruct", str(model), "--data", str(data), "--out", str(tmp_path / "out"), *CPU]) == 0
    shown = capsys.readouterr().out
    assert "PSNR 100.00 dB" in shown
    assert "clipped" not in shown
    assert "beyond" not in shown
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{i}{suffix}" for i in range(9)} | {"side_by_side.png"}
    for i in range(9):
        (info, before), (again, after) = (load_image(folder / f"{i}{suffix}") for folder in (data, tmp_path / "out"))
        assert again == info
        assert after.dtype == dtype
        np.testing.assert_allclose(after, before, rtol=0, atol=0 if dtype != "float32" else 1e-6 * scale)


def test_what_loses_comes_back_as_png_beside_its_namesake(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(8):
        Image.fromarray((picture(i, 3) * 255).astype(np.uint8)).save(data / f"{i}.jpg")
    Image.new("RGB", (SIZE, SIZE), (9, 9, 9)).save(data / "3.png")
    Image.new("RGB", (SIZE, SIZE), (7, 7, 7)).save(data / "3.webp", lossless=True)
    model = identity(tmp_path / "model", ct.PixelFormat())
    assert run(["reconstruct", str(model), "--data", str(data), "--out", str(tmp_path / "out"), *CPU]) == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        *["0.png", "1.png", "2.png", "3.jpg.png", "3.png", "3.webp.png"],
        *["4.png", "5.png", "6.png", "7.png", "side_by_side.png"],
    ]
    for name, original in (("3.png", "3.png"), ("3.webp.png", "3.webp"), ("3.jpg.png", "3.jpg")):
        assert np.array_equal(load_image(tmp_path / "out" / name)[1], load_image(data / original)[1])


def test_the_range_of_the_model_is_kept_and_what_it_lacks_is_said(tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(9):
        write(data / f"{i}.tif", (picture(i, 1)[..., 0] * 2000).astype(np.uint16))
    model = identity(tmp_path / "model", ct.PixelFormat(channels=1, dtype="uint16", high=1000.0))
    assert run(["reconstruct", str(model), "--data", str(data), "--out", str(tmp_path / "out"), *CPU]) == 0
    shown = capsys.readouterr().out
    assert "beyond the range of the training images" in shown
    assert "were out of range and clipped" in shown
    pixels = load_image(tmp_path / "out" / "0.tif")[1]
    assert np.array_equal(pixels, load_image(data / "0.tif")[1].clip(0, 1000))


def test_originals_are_not_overwritten(tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(9):
        write(data / f"{i}.png", (picture(i, 3) * 255).astype(np.uint8))
    model = identity(tmp_path / "model", ct.PixelFormat())
    before = {path: path.read_bytes() for path in data.iterdir()}
    assert run(["reconstruct", str(model), "--data", str(data), "--out", str(data), *CPU]) == 2
    assert "--out must be another folder than --data" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in data.iterdir()} == before


@pytest.mark.parametrize(("suffix", "channels", "dtype"), [(".tif", 4, "uint8"), (".npy", 13, "float32")])
def test_train_and_sample_on_any_channels(tmp_path, suffix, channels, dtype):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(10):
        write(data / f"{i}{suffix}", (picture(i, channels) * (255 if dtype == "uint8" else 1)).astype(dtype))
    options = ("--data", str(data), "--samples", "16", *CPU)
    ae, ldm = tmp_path / "ae", tmp_path / "ldm"
    assert run(["train", "kl-f8-debug", *options, "--size", "16", "--out", str(ae)]) == 0
    assert ct.load(ae).pixel_format.channels == channels
    assert run(["reconstruct", str(ae), "--data", str(data), "--out", str(tmp_path / "out"), *CPU]) == 0
    assert load_image(tmp_path / "out" / f"3{suffix}")[0].channels == channels
    assert run(["train", "ldm-debug", *options, "--autoencoder", str(ae), "--out", str(ldm)]) == 0
    assert run(["sample", str(ldm), "--seeds", "4", "--steps", "1", "--out", str(tmp_path / "drawn"), *CPU]) == 0
    pixels = load_image(tmp_path / "drawn" / "4.tif")[1]
    assert (pixels.shape, pixels.dtype) == ((16, 16, channels), dtype)
