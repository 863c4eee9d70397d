"""What a trained thing is on disk: a folder with config.json and one safetensors file per component.

A *training run* (kind ``training_run``) holds ``checkpoints/<samples seen>/``, each of which is such an artifact with
the training state beside it; a *chain* holds training runs. Every function here that reads takes any of the three.
"""

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from calotype.utils.errors import UserError
from calotype.utils.files import read_json, write_json
from calotype.utils.tensors import load_tensors, save_tensors

FORMAT, VERSION = "calotype", 1
Weights = Literal["ema", "raw"]


@dataclass(frozen=True)
class Artifact:
    """An artifact's folder and the contents of its config.json; weights are read when asked for."""

    folder: Path
    kind: str
    config: dict[str, Any]
    provenance: dict[str, Any]

    def weights(self, component: str, weights: Weights = "ema") -> dict[str, Tensor]:
        """Read the state dict of a component: its moving average where there is one, unless ``"raw"`` is asked for.

        Raises:
            UserError: the file is missing or damaged.
        """
        return load_tensors(self.file(component, weights))

    def file(self, component: str, weights: Weights = "ema") -> Path:
        """Return the file that ``weights`` reads."""
        averaged = self.folder / f"{component}_ema.safetensors"
        return averaged if weights == "ema" and averaged.exists() else self.folder / f"{component}.safetensors"


def write_artifact(
    folder: Path,
    *,
    kind: str,
    config: Mapping[str, Any],
    components: Mapping[str, Mapping[str, Tensor] | Path],
    provenance: Mapping[str, Any],
) -> None:
    """Write an artifact into ``folder`` (new or empty; use ``utils.files.atomic_folder`` to make it appear at once).

    A component is a state dict, or the path of a file already written, which is linked rather than copied where the
    file system can.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, state in components.items():
        target = folder / f"{name}.safetensors"
        if isinstance(state, Path):
            _link(state, target)
        else:
            save_tensors(target, state)
    write_config(folder, kind=kind, config=config, provenance=provenance)


def write_config(folder: Path, *, kind: str, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Write the config.json that makes a folder explain itself: an artifact, a ``training_run`` or a ``chain``."""
    stamp = {"format": FORMAT, "version": VERSION, "kind": kind}
    write_json(folder / "config.json", {**stamp, "config": dict(config), "provenance": {**versions(), **provenance}})


def read_artifact(path: Path | str, *, kind: str | None = None) -> Artifact:
    """Open the artifact at ``path``, or the latest one of the run there.

    Raises:
        UserError: nothing is there, it is no artifact, or it is of another kind than ``kind``.
    """
    folder = resolve(path, kind)
    data = _read_config(folder)
    if kind is not None and data["kind"] != kind:
        raise UserError(f"{path} holds {_article(data['kind'])}, but {_article(kind)} is needed here")
    return Artifact(folder, data["kind"], data["config"], data["provenance"])


def resolve(path: Path | str, kind: str | None = None) -> Path:
    """Return the artifact folder that ``path`` stands for: itself, a run's latest checkpoint, or a chain's last stage.

    Of a chain, ``kind="autoencoder"`` asks for that stage.

    Raises:
        UserError: nothing is there, or nothing that was trained.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if not (path / "config.json").is_file():
        raise UserError(f"{path} holds nothing that calotype trained (no config.json)")
    stages = ("autoencoder",) if kind == "autoencoder" else ("diffusion", "autoencoder")
    runs = {"training_run": [path], "chain": [path / stage for stage in stages]}
    holds = _read_config(path)["kind"]
    if holds not in runs:
        return path
    for run in runs[holds]:
        if latest := latest_checkpoint(run):
            return latest
    raise UserError(f"{path} has no checkpoint yet: run its command again to train on")


def latest_checkpoint(run: Path) -> Path | None:
    """Return the newest complete checkpoint of a run folder, or None."""
    found = [child for child in (run / "checkpoints").glob("*") if child.name.isdigit()]
    return max(found, key=lambda child: int(child.name), default=None)


def versions() -> dict[str, Any]:
    """Return what wrote an artifact: versions of calotype, torch and Python."""
    import calotype

    return {"calotype": calotype.__version__, "torch": torch.__version__, "python": platform.python_version()}


def _read_config(folder: Path) -> dict[str, Any]:
    data = read_json(folder / "config.json")
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{folder}/config.json is not calotype's")
    if data.get("version", 0) > VERSION:
        raise UserError(f"{folder} was written by a newer calotype (format {data['version']}, this reads {VERSION})")
    if missing := {"kind", "config", "provenance"} - data.keys():
        raise UserError(f"{folder}/config.json is incomplete: it lacks {', '.join(sorted(missing))}")
    return data


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _article(kind: str) -> str:
    words = kind.replace("_", " ")
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
