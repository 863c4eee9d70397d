"""``calotype sample --original``."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small import FIRST_STAGES, MODELS
from synthetic import random_state, write_checkpoint

from calotype.cli import run
from calotype.interop.original import load_original, original_config
from calotype.utils.images import image_grid


def test_a_checkpoint_is_drawn_from_by_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"model": MODELS["class"]}))
    checkpoint = write_checkpoint(tmp_path / "model.ckpt", random_state(original_config(MODELS["class"])))
    grid = tmp_path / "grid.png"
    command = ["sample", "--original", str(checkpoint), "--config", str(config), "--seeds", "0-1", "--steps", "2"]
    assert run([*command, "--guidance", "1", "--class", "3", "--grid", str(grid)]) == 0
    assert "the network" in capsys.readouterr().out

    model, _ = load_original(checkpoint, config)
    from calotype.diffusion import CFG

    expected = model.sample(seeds=[0, 1], steps=2, guidance=CFG(1.0), **{"class": ["3", "3"]})
    assert torch.isfinite(expected).all()
    assert np.array_equal(np.asarray(Image.open(grid)), image_grid(expected, columns=2))

    assert run([*command, "--class", "99999", "--grid", str(grid)]) == 2
    assert "99999" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name one model"),
        (["runs/x", "--original", "y.ckpt", "--config", "z.yaml"], "name one model"),
        (["--original", "y.ckpt"], "go together"),
        (["runs/x", "--config", "z.yaml"], "go together"),
        (["--original", "y.ckpt", "--config", "cin255"], "released model"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_an_autoencoder_cannot_be_drawn_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = next(iter(FIRST_STAGES))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"model": FIRST_STAGES[name]}))
    checkpoint = write_checkpoint(tmp_path / "model.ckpt", random_state(original_config(FIRST_STAGES[name])))
    assert run(["sample", "--original", str(checkpoint), "--config", str(config)]) == 2
    assert "is an autoencoder alone" in capsys.readouterr().err
