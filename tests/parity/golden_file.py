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
            error, allowed = error_of(golden, name, actual), _allowed(golden, name)
            if not error <= allowed:
                lines.append(f"{name}: differs by {error:.3g}, allowed {allowed:.3g}")
    return lines


def relative_errors(golden: Golden, found: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Return, for each output of real numbers, its largest error and what is allowed, relative to what it is judged by.

    That is the largest magnitude of the output, or of the group that the tolerance names.
    """
    return {
        name: tuple(
            value / _largest(golden, name) for value in (error_of(golden, name, found[name]), _allowed(golden, name))
        )
        for name, expected in golden.outputs.items()
        if expected.is_floating_point() and _largest(golden, name) > 0
    }


def error_of(golden: Golden, name: str, actual: Tensor) -> float:
    """Return the largest absolute difference of those elements of an output that count."""
    expected = golden.outputs[name]
    counted = _counted(golden, name, expected)
    return _error(torch.as_tensor(actual).detach()[counted], expected[counted])


def _error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference; equal infinities do not differ."""
    differences = torch.where(actual == expected, 0.0, actual.double() - expected.double())
    return differences.abs().max().item() if differences.numel() else 0.0


def _allowed(golden: Golden, name: str) -> float:
    """Return the absolute difference allowed: relative to max |out|, or as the most specific matching override says."""
    rule = _rule(golden, name)
    if "absolute" in rule and "relative" not in rule:
        return rule["absolute"]
    relative = rule.get("relative", golden.sidecar["tolerance"]["relative"]) * _largest(golden, name)
    return max(relative, rule.get("absolute", 0.0))


def _rule(golden: Golden, name: str) -> dict[str, Any]:
    overrides = golden.sidecar["tolerance"].get("overrides", {})
    fitting = [pattern for pattern in overrides if fnmatch.fnmatchcase(f"out.{name}", pattern)]
    return overrides[max(fitting, key=len)] if fitting else {}


def _largest(golden: Golden, name: str) -> float:
    group = _rule(golden, name).get("relative_to_largest_of", f"out.{name}")
    outputs = [
        tensor
        for other, tensor in golden.outputs.items()
        if other == name or fnmatch.fnmatchcase(f"out.{other}", group)
    ]
    return max(_scale(tensor) for tensor in outputs)


def _counted(golden: Golden, name: str, output: Tensor) -> Tensor:
    """Return which elements count: not those of ``ignore_parameters``, in a list of one number per parameter."""
    ignored = golden.sidecar["tolerance"].get("ignore_parameters", [])
    names = golden.sidecar["config"]["param_names"] if ignored else []
    if output.shape == (len(names),):
        return torch.tensor([parameter not in ignored for parameter in names])
    return torch.full_like(output, not name.endswith(tuple(f".{parameter}" for parameter in ignored)), dtype=torch.bool)


def _scale(tensor: Tensor) -> float:
    finite = tensor[tensor.isfinite()].double()
    return finite.abs().max().item() if finite.numel() else 0.0
