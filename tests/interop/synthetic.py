"""Checkpoints as the original's trainer (Lightning 1.4) wrote them, with weights that nobody trained.

Small ones hold random numbers. Full-size ones are sparse files: gigabytes long, megabytes on disk.
"""

import argparse
import io
import json
import lzma
import sys
import types
import typing
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from calotype.interop.original import OriginalConfig
from calotype.interop.original.archive import open_zip
from calotype.interop.original.buffers import schedule_buffers
from calotype.interop.original.keys import CONDITION, EMA, FIRST_STAGE, SCALE, original_state
from calotype.interop.original.pickles import read_pickle

SCALE_FACTOR = 0.3
FACTS = {"epoch": 3, "global_step": 77, "pytorch-lightning_version": "1.4.2"}
FOREIGN = {
    "pytorch_lightning.callbacks.model_checkpoint": ["ModelCheckpoint"],
    "pytorch_lightning.utilities.parsing": ["AttributeDict"],
    "omegaconf.base": ["ContainerMetadata"],
    "omegaconf.dictconfig": ["DictConfig"],
    "omegaconf.listconfig": ["ListConfig"],
}
BASES = {"AttributeDict": (dict,), "ListConfig": (list,)}


@cache
def manifests() -> dict[str, Any]:
    """Each released configuration: its section `model`, and what its checkpoint holds, recorded from the original."""
    return json.loads(lzma.decompress((Path(__file__).parent / "manifests.json.xz").read_bytes()))


def random_state(config: OriginalConfig, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of ``config`` with random weights and everything else as it must be."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, tensor in original_state(config).items():
        drawn = torch.randn(tensor.shape, generator=generator) * 0.2 if tensor.is_floating_point() else torch.ones(())
        state[key] = drawn.to(tensor.dtype)
    return state | exact_tensors(config) | copies(state)


def exact_tensors(config: OriginalConfig) -> dict[str, Tensor]:
    """Those tensors whose numbers follow from the configuration."""
    diffusion, state = config.diffusion, {}
    if diffusion is not None:
        state = schedule_buffers(diffusion.schedule, diffusion.objective.v_posterior)
        if diffusion.scale_factor is None:
            state[SCALE] = torch.tensor(SCALE_FACTOR)
        if diffusion.ema:
            state |= {EMA + "decay": torch.tensor(0.9999), EMA + "num_updates": torch.tensor(77, dtype=torch.int32)}
    return state


def copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first stage once more where the condition goes through it: the same tensors."""
    both = {key: CONDITION + key.removeprefix(FIRST_STAGE) for key in state if key.startswith(FIRST_STAGE)}
    return {copy: state[key] for key, copy in both.items() if copy in state}


def write_checkpoint(path: Path, state: Mapping[str, Tensor], **options: Any) -> Path:
    """Save as Lightning 1.4 does: callbacks by their classes, optimiser states, hyper-parameters of foreign classes.

    The foreign classes exist while this is written, not when it is read.
    """
    with _trainers_modules() as foreign:
        torch.save(_lightning(OrderedDict(state), foreign), path, **options)
    return path


def write_full_size(path: Path, config: OriginalConfig) -> Path:
    """Save a whole checkpoint of ``config`` as a sparse file: weights are zero and take no room on the disk."""
    state = original_state(config)
    with FakeTensorMode():
        empty = {key: torch.empty(tensor.shape, dtype=tensor.dtype) for key, tensor in state.items()}
    with torch.serialization.skip_data(materialize_fake_tensors=True):
        write_checkpoint(path, empty)
    archive = open_zip(path)
    references = read_pickle(io.BytesIO(archive.pickle)).value["state_dict"]
    with path.open("r+b") as file:
        for key, tensor in exact_tensors(config).items():
            file.seek(archive.storages[references[key].storage.key][0])
            file.write(tensor.numpy().tobytes())
    return path


def _lightning(state: Mapping[str, Tensor], foreign: types.SimpleNamespace) -> dict[str, Any]:
    metadata = foreign.ContainerMetadata()
    metadata.__dict__.update(ref_type=typing.Any, object_type=dict, optional=True, flags={"struct": True})
    config = foreign.DictConfig()
    config.__dict__.update(_metadata=metadata, _parent=None, _content={"lr": 1e-6})
    config._parent = config
    parameters = foreign.AttributeDict(unet_config=config, sizes=foreign.ListConfig([1, 2**80, b"x", 1j, None]))
    callback = {"monitor": "val/loss", "best_model_score": np.float64(0.25), "dirpath": "logs/x", "set": {1, 2}}
    step = {"exp_avg": torch.zeros(3), "step": 7}
    groups = [{"lr": 1e-6, "betas": (0.9, 0.999), "params": [0]}]
    return {
        **FACTS,
        "state_dict": state,
        "callbacks": {foreign.ModelCheckpoint: callback},
        "optimizer_states": [{"state": {0: step}, "param_groups": groups}],
        "lr_schedulers": [{"last_epoch": 3, "_step_count": 4, "base_lrs": [1e-6]}],
        "hparams_name": "kwargs",
        "hyper_parameters": parameters,
        "arguments": argparse.Namespace(gpus="0,", precision=torch.float32, device=torch.device("cpu")),
    }


@contextmanager
def _trainers_modules() -> Iterator[types.SimpleNamespace]:
    classes: dict[str, type] = {}
    modules = {}
    for path, names in FOREIGN.items():
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            modules.setdefault(name := ".".join(parts[:depth]), types.ModuleType(name))
        for name in names:
            classes[name] = type(name, BASES.get(name, ()), {"__module__": path})
            setattr(modules[path], name, classes[name])
    assert not modules.keys() & sys.modules.keys()
    sys.modules.update(modules)
    try:
        yield types.SimpleNamespace(**classes)
    finally:
        for name in modules:
            del sys.modules[name]
