"""Opens checkpoints safely: torch's restricted reader for plain ones, ours for those that hold foreign objects."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.interop.original.archive import LEGACY_START, ZIP_START, Archive, open_legacy, open_zip
from calotype.interop.original.names import PLAIN
from calotype.interop.original.pickles import Unpickled, read_pickle
from calotype.interop.original.values import TensorRef
from calotype.utils.errors import UserError
from calotype.utils.tensors import load_tensors

TORCH_PROTOCOL = 2
_FACTS = ("epoch", "global_step", "pytorch-lightning_version")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's tensors, mapped from its file, and what else was in it.

    ``facts`` are Lightning's epoch, global step and version where they are there; ``foreign`` the classes whose objects
    were left out.
    """

    state: dict[str, Tensor]
    facts: dict[str, int | str]
    foreign: tuple[str, ...]


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a ``.ckpt`` or ``.pt`` (whole, or a bare state dict) or ``.safetensors``, told apart by their contents.

    Nothing in the file is executed: its pickle is first read as data. Where that names nothing but tensors and
    dictionaries, ``torch.load`` with ``weights_only=True`` reads the file; where it names other classes, their objects
    are left out.

    Raises:
        UserError: it is missing, damaged, no checkpoint, or names what could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
    with path.open("rb") as file:
        start = file.read(len(LEGACY_START))
    if start[8:9] == b"{":
        return Checkpoint(load_tensors(path), {}, ())
    try:
        if start != LEGACY_START and not start.startswith(ZIP_START):
            raise ValueError("it is neither a checkpoint that torch saved nor a safetensors file")
        archive = open_legacy(path) if start == LEGACY_START else open_zip(path)
        unpickled = read_pickle(io.BytesIO(archive.pickle))
        if start != LEGACY_START and unpickled.names <= PLAIN and unpickled.protocol == TORCH_PROTOCOL:
            return _read_weights_only(path)
        return _read_restricted(archive, unpickled)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _read_weights_only(path: Path) -> Checkpoint:
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(str(error).split("\n")[0][:200]) from None
    state = {name: tensor.detach() for name, tensor in _state_dict(data, Tensor).items()}
    return Checkpoint(state, _facts(data), ())


def _read_restricted(archive: Archive, unpickled: Unpickled) -> Checkpoint:
    state = archive.tensors(_state_dict(unpickled.value, TensorRef))
    return Checkpoint(state, _facts(unpickled.value), unpickled.foreign)


def _state_dict(data: Any, kind: type) -> dict[str, Any]:
    """Return the state dict in ``data``: under its name as in Lightning's checkpoints, or ``data`` itself."""
    state = data.get("state_dict", data) if isinstance(data, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise ValueError("it holds no state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, kind):
            raise ValueError(f"its state dict holds something that is no tensor, {str(name)[:80]!r}")
    return dict(state)


def _facts(data: Mapping[Any, Any]) -> dict[str, int | str]:
    return {name: data[name] for name in _FACTS if isinstance(data.get(name), int | str)}
