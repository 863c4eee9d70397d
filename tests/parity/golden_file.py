"""One recorded behaviour of the reference, and the comparison with it."""

import fnmatch
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Golden:
    """Tensors by their names without the prefix ``in.``, ``out.`` or ``state.``; ``sidecar`` is the JSON file."""

    name: str
    sidecar: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    state: dict[str, Tensor]

    @property
    def config(self) -> dict[str, Any]:
        return self.sidecar["config"]


def read(stem: Path) -> Golden:
    """Read ``stem``.json and ``stem``.safetensors."""
    sidecar = json.loads(Path(f"{stem}.json").read_text(encoding="utf-8"))
    tensors = load_file(f"{stem}.safetensors")
    parts: dict[str, dict[str, Tensor]] = {"in": {}, "out": {}, "state": {}}
    for name, tensor in tensors.items():
        prefix, _, rest = name.partition(".")
        parts[prefix][rest] = tensor
    return Golden(stem.name, sidecar, parts["in"], parts["out"], parts["state"])


def differences(golden: Golden, found: dict[str, Tensor]) -> list[str]:
    """Return one line per output of ``golden`` that is missing, misshapen or too far off in ``found``."""
    lines = []
    for name, expected in golden.outputs.items():
        if name not in found:
            lines.append(f"{name}: not computed")
            continue
        actual = torch.as_tensor(found[name]).detach()
        if actual.shape != expected.shape:
            lines.append(f"{name}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}")
        elif not expected.is_floating_point():
            if not torch.equal(actual.to(expected.dtype), expected):
                lines.append(f"{name}: other integers")
        else:
            error, allowed = _largest(actual.double() - expected.double()), _allowed(golden, name)
            if not error <= allowed:
                lines.append(f"{name}: differs by {error:.3g}, allowed {allowed:.3g}")
    return lines


def _allowed(golden: Golden, name: str) -> float:
    """Return the absolute difference allowed: relative to max |out|, or as the last matching override says."""
    tolerance = golden.sidecar["tolerance"]
    rule = {"relative": tolerance["relative"]}
    for pattern, override in tolerance["overrides"].items():
        if fnmatch.fnmatchcase(f"out.{name}", pattern):
            rule = override
    if "absolute" in rule:
        return rule["absolute"]
    group = [golden.outputs[name]]
    if "relative_to_largest_of" in rule:
        pattern = rule["relative_to_largest_of"]
        group = [tensor for other, tensor in golden.outputs.items() if fnmatch.fnmatchcase(f"out.{other}", pattern)]
    return rule["relative"] * max(_largest(tensor.double()) for tensor in group)


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0
