import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from calotype.training.logs import RunLog, StepLogs, read_metrics


def test_lines_survive_and_those_beyond_the_checkpoint_go(tmp_path: Path) -> None:
    log = RunLog(tmp_path, seen=0)
    for seen in (4, 8, 12):
        log.metrics(seen, {"train/loss": seen / 8})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"samples": 16, "train/lo')
    RunLog(tmp_path, seen=8).close()
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"samples": 4, "train/loss": 0.5},
        {"samples": 8, "train/loss": 1.0},
    ]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_values_that_json_cannot_hold_become_null(tmp_path: Path) -> None:
    log = RunLog(tmp_path, seen=0)
    log.metrics(4, {"a": math.nan, "b": math.inf, "c": 1.0})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"samples": 4, "a": None, "b": None, "c": 1.0}


def test_pictures_are_named_by_samples(tmp_path: Path) -> None:
    log = RunLog(tmp_path, seen=0)
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    path = log.picture(1234, picture)
    log.close()
    assert path == tmp_path / "samples" / "0000001234.png"
    assert (np.asarray(Image.open(path)) == picture).all()


def test_no_metrics_yet(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_step_logs_are_means_over_the_steps_that_have_them() -> None:
    logs = StepLogs({})
    logs.add({"loss": torch.tensor(1.0)})
    logs.add({"loss": torch.tensor(2.0), "late": torch.tensor(5.0)})
    assert {key: value.tolist() for key, value in logs.state().items()} == {"loss": [1.0, 2.0], "late": [5.0]}
    assert StepLogs(logs.state()).take() == logs.take() == {"loss": 1.5, "late": 5.0}
    assert logs.take() == {}


def test_values_of_a_checkpoint_join_those_of_the_device_that_trains() -> None:
    logs = StepLogs({"loss": torch.tensor([1.0, 2.0])})
    logs.add({"loss": torch.empty((), device="meta")})
    assert logs.state()["loss"].device.type == "meta"
    assert logs.state()["loss"].shape == (3,)
