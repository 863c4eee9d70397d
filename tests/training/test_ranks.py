"""Two processes train what one does: the same weights from the same global batches."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks import GAN_KINDS, KINDS, precise

from calotype.artifact import latest_checkpoint
from calotype.training.trainer import Trainer
from calotype.utils.files import read_json
from calotype.utils.tensors import load_tensors
from tiny import metrics, settings

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def two(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes of ranks.py have filled."""
    out = tmp_path_factory.mktemp("two")
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    group |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "ranks.py"), str(out), str(encoded)]
    processes = [
        subprocess.Popen(command, env={**os.environ, **group, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return out


def equal(checkpoint: Path, reference: Path) -> None:
    for path in sorted(reference.glob("*.safetensors")):
        ours, theirs = load_tensors(checkpoint / path.name), load_tensors(path)
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=1e-10, atol=1e-10, msg=f"{path.name} {key}")


@pytest.mark.parametrize("kind", KINDS)
def test_two_equal_one(kind: str, two: Path, encoded: Path, tmp_path: Path) -> None:
    recipe = precise(kind, encoded)
    alone = Trainer(settings(tmp_path / "one", samples=24)).fit(recipe, recipe.train)
    assert all(p.dtype == torch.float64 for module in recipe.averaged.values() for p in module.parameters())
    equal(latest_checkpoint(two / kind), alone)
    ours, theirs = metrics(two / kind), metrics(tmp_path / "one")
    for line, expected in zip(ours, theirs, strict=True):
        assert line == pytest.approx(expected, rel=1e-6)
    assert ("train/d_weight" in theirs[-2]) == (kind in GAN_KINDS), "the discriminator has joined"

    shutil.rmtree(latest_checkpoint(two / kind))
    recipe = precise(kind, encoded)
    equal(Trainer(settings(two / kind, samples=24)).fit(recipe, recipe.train), alone)


def test_what_happens_on_one_happens_on_both(two: Path) -> None:
    told = [json.loads((two / f"{rank}.json").read_text()) for rank in range(2)]
    assert [(each["rank"], each["processes"]) for each in told] == [(0, 2), (1, 2)]
    for each in told:
        assert each["stop"].startswith("Interrupted 143 stopped at 12 of 40 images, all saved")
        assert each["nan"].startswith("TrainingError  the autoencoder's loss is not finite at 8 images")
    assert latest_checkpoint(two / "stop").name == f"{12:010d}"
    assert latest_checkpoint(two / "nan").name == f"{8:010d}"


def test_both_put_right_what_went_wrong_on_one(two: Path) -> None:
    told = [json.loads((two / f"{rank}.json").read_text())["put right"] for rank in range(2)]
    assert told[0] == told[1]
    said = [line for line in metrics(two / "put right") if line.get("kind") == "health"]
    assert [line["rule"] for line in said] == ["not finite", "divergence"]
    assert "2.0 times its best at 24 images: went back to what it was at 20 images" in said[1]["message"]
    assert latest_checkpoint(two / "put right").name == f"{40:010d}"


def test_minutes_are_one_number_of_samples(two: Path) -> None:
    samples = read_json(two / "minutes" / "config.json")["config"]["samples"]
    assert samples >= 4
    assert latest_checkpoint(two / "minutes").name == f"{samples:010d}"
