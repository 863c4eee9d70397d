"""What a run leaves behind while it runs: metrics.jsonl, TensorBoard, and sample pictures."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotype.utils import distributed
from calotype.utils.files import atomic_write
from calotype.utils.images import save_png


class RunLog:
    """Appends to a run's metrics.jsonl and TensorBoard files. Resuming drops the lines beyond the checkpoint."""

    def __init__(self, run: Path, *, seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.run, self.path = run, run / "metrics.jsonl"
        kept = [line for line in read_metrics(self.path) if line["samples"] <= seen]
        with atomic_write(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.file = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=seen + 1)

    def metrics(self, seen: int, values: Mapping[str, float]) -> None:
        """Write one line of metrics after ``seen`` samples; values that are not finite become null."""
        clean = {key: float(value) if math.isfinite(value) else None for key, value in values.items()}
        self.file.write(json.dumps({"samples": seen, **clean}) + "\n")
        self.file.flush()
        for key, value in values.items():
            self.board.add_scalar(key, value, seen)

    def event(self, seen: int, rule: str, message: str) -> None:
        """Write one line about the run's health after ``seen`` samples."""
        self.file.write(json.dumps({"samples": seen, "kind": "health", "rule": rule, "message": message}) + "\n")
        self.file.flush()
        self.board.add_text("health", message, seen)

    def picture(self, seen: int, picture: np.ndarray) -> Path:
        """Write a picture (HWC, uint8) to ``samples/<seen>.png``."""
        path = self.run / "samples" / f"{seen:010d}.png"
        save_png(path, picture)
        self.board.add_image("preview", picture, seen, dataformats="HWC")
        return path

    def close(self) -> None:
        """Flush and close the files."""
        self.file.close()
        self.board.close()


class StepLogs:
    """What steps have returned since the last line of metrics.

    It is part of the checkpoint, so that a resumed run writes the lines that the uninterrupted one would have written.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = {key: list(value) for key, value in values.items()}

    def add(self, logs: Mapping[str, Tensor]) -> None:
        """Remember what one step returned (0-d tensors)."""
        for key, value in logs.items():
            self.values.setdefault(key, []).append(value.detach())

    def state(self) -> dict[str, Tensor]:
        """Return one value per step and key, averaged over processes, on the device of the last step.

        Those from a checkpoint were read on the CPU.
        """
        stacked = {
            key: torch.stack([value.to(values[-1].device) for value in values]) for key, values in self.values.items()
        }
        return {key: distributed.average(values) for key, values in stacked.items()}

    def take(self) -> dict[str, float]:
        """Return the mean of every key over steps and processes, and forget them."""
        means = {key: float(values.mean()) for key, values in self.state().items()}
        self.values = {}
        return means


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a metrics.jsonl; a last line cut short by a crash is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
