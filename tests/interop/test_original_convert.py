"""``calotype convert``."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small import FIRST_STAGES, MODELS, kl
from synthetic import manifests, random_state, write_checkpoint

import calotype as ct
from calotype.artifact import read_artifact
from calotype.cli import run
from calotype.interop.original import load_original, original_config
from calotype.presets.released import RELEASED
from calotype.utils.files import digest

VALUES: dict[str, Any] = {
    "class": "3",
    "caption": [101, *range(1000, 1075), 102],
    "layout": [{"class": 2, "box": (0.1, 0.2, 0.5, 0.5)}],
    "neighbours": torch.ones(2, 24),
    "text_embedding": torch.ones(3, 24),
    "segmentation": torch.zeros(32, 32, dtype=torch.int64),
    "low_resolution": torch.zeros(3, 16, 16),
    "masked_image": (torch.zeros(3, 32, 32), torch.ones(1, 32, 32)),
}


def original(folder: Path, model: dict[str, Any]) -> tuple[str, str]:
    """A checkpoint and its YAML file."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"model": model}))
    return str(write_checkpoint(folder / "model.ckpt", random_state(original_config(model)))), str(path)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_converted_loads_and_samples(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, config = original(tmp_path, MODELS[name])
    assert run(["convert", checkpoint, str(tmp_path / "out"), "--config", config]) == 0
    assert "the network" in capsys.readouterr().out
    expected, _ = load_original(checkpoint, config)
    model = ct.load(tmp_path / "out")
    assert isinstance(model, ct.LatentDiffusion)
    assert isinstance(expected, ct.LatentDiffusion)
    fields = {field: [VALUES[field]] for field in model.conditioner.fields}
    images = model.sample(seeds=[0], steps=2, guidance=ct.CFG(1.0), **fields)
    assert images.shape == (1, 4 if name == "pixels" else 3, model.first_stage.size, model.first_stage.size)
    assert torch.equal(images, expected.sample(seeds=[0], steps=2, guidance=ct.CFG(1.0), **fields))
    assert images.std() > 0


def test_the_folder_tells_where_it_comes_from(tmp_path: Path) -> None:
    checkpoint, config = original(tmp_path, MODELS["class"])
    assert run(["convert", checkpoint, str(tmp_path / "out"), "--config", config, "--weights", "raw"]) == 0
    provenance = read_artifact(tmp_path / "out").provenance["imported"]
    assert provenance == {
        "file": "model.ckpt",
        "hash": digest(Path(checkpoint)),
        "configuration": "config.yaml",
        "weights": "raw",
    }


@pytest.mark.parametrize("name", ["ldm/celeba256", "first_stage_models/kl-f8", "latent-diffusion/cin256-v2"])
def test_keys_are_printed_as_json(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": manifests()[name]["model"]}))
    assert run(["convert", str(tmp_path / "config.yaml"), "--keys"]) == 0
    assert json.loads(capsys.readouterr().out) == manifests()[name]["shapes"]


def test_a_released_model_is_known_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cin256-v2" in RELEASED
    assert run(["convert", "cin256-v2", "--keys"]) == 0
    assert json.loads(capsys.readouterr().out) == manifests()["latent-diffusion/cin256-v2"]["shapes"]


def test_to_the_original_and_back(tmp_path: Path) -> None:
    checkpoint, config = original(tmp_path, MODELS["segmentation"])
    ours, theirs = tmp_path / "ours", tmp_path / "theirs.safetensors"
    assert run(["convert", checkpoint, str(ours), "--config", config]) == 0
    assert run(["convert", str(ours), str(theirs), "--to", "original"]) == 0
    again = tmp_path / "again"
    assert run(["convert", str(theirs), str(again), "--config", str(tmp_path / "theirs.yaml")]) == 0
    for component in ("autoencoder", "network", "conditioner"):
        assert (again / f"{component}.safetensors").read_bytes() == (ours / f"{component}.safetensors").read_bytes()


def test_to_diffusers_and_back(tmp_path: Path) -> None:
    checkpoint, config = original(tmp_path, kl())
    assert run(["convert", checkpoint, str(tmp_path / "theirs"), "--config", config, "--to", "diffusers"]) == 0
    assert run(["convert", str(tmp_path / "theirs"), str(tmp_path / "ours")]) == 0
    expected, _ = load_original(checkpoint, config)
    model = ct.load(tmp_path / "ours")
    assert isinstance(model, ct.TrainedAutoencoder)
    assert isinstance(expected, ct.TrainedAutoencoder)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(model.reconstruct(images), expected.reconstruct(images))


def test_mistakes_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, config = original(tmp_path, FIRST_STAGES["kl"])
    out = str(tmp_path / "out")
    for arguments, said in {
        (checkpoint, out): "needs its configuration: --config FILE.yaml",
        (checkpoint, "--config", config): "say where to write",
        (checkpoint, out, "--config", "kl-f9"): "neither a YAML file nor a released model",
        (checkpoint, str(tmp_path), "--config", config): "exists already",
        (checkpoint, out, "--config", config, "--to", "original"): "written as safetensors",
        (str(tmp_path / "absent.ckpt"), out): "absent.ckpt does not exist",
        (str(tmp_path), out): "holds no model of diffusers",
        (str(tmp_path), out, "--config", config): "--config belongs to a checkpoint of the original",
        (config, out, "--config", config): "neither a checkpoint that torch saved nor",
        (checkpoint, "--keys"): "too large to be a configuration",
    }.items():
        assert run(["convert", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.startswith("calotype convert: ")
        assert error.count("\n") == 1
        assert not Path(out).exists()
