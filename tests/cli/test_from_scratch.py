import logging
from pathlib import Path

import pytest

from calotype.artifact import write_config
from calotype.chain.plan import make_plan
from calotype.chain.source import open_source
from calotype.cli import run
from calotype.training.session import start_session
from calotype.utils.config import to_dict
from calotype.utils.files import read_json

LINE = "starts from the general-purpose weights"


def test_train_says_what_it_starts_from(picture_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="calotype")
    data = ("--data", str(picture_folder), "--samples", "16", "--size", "16", "--device", "cpu")
    command = ["train", "kl-f4-small", *data, "--out", str(tmp_path / "warm")]
    assert run(command) == 0
    assert any(message.startswith(LINE) for message in caplog.messages)
    assert read_json(tmp_path / "warm" / "config.json")["config"]["recipe"]["initial"] == "kl-f4-small"
    assert run([*command, "--from-scratch"]) == 2
    caplog.clear()
    assert run(["train", "kl-f4-small", *data, "--from-scratch", "--out", str(tmp_path / "cold")]) == 0
    assert not any(message.startswith(LINE) for message in caplog.messages)
    assert "initial" not in read_json(tmp_path / "cold" / "config.json")["config"]["recipe"]


def test_a_chain_that_began_warm_does_not_go_on_from_scratch(
    picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = open_source(str(picture_folder))
    plan = make_plan(source, start_session("cpu"), minutes=5.0, size=None, seed=0)
    write_config(tmp_path, kind="chain", config=to_dict(plan), provenance={})
    assert run(["run", str(picture_folder), "--out", str(tmp_path), "--from-scratch", "--device", "cpu"]) == 2
    assert "was begun from general-purpose weights, not from scratch: choose another --out" in capsys.readouterr().err
