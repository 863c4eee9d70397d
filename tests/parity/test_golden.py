"""Equal to the reference: every golden file in the folder `--golden` (by default those kept here)."""

from pathlib import Path

import pytest
import torch
from golden_file import Golden, differences, read
from kinds import run_of


def test_equals_the_reference(golden_file: Path) -> None:
    golden = read(golden_file)
    lines = differences(golden, run_of(golden.name)(golden))
    assert not lines, "\n".join(lines)


def test_a_file_of_an_unknown_kind_fails() -> None:
    with pytest.raises(LookupError, match="nobody_knows_this"):
        run_of("nobody_knows_this")


def test_the_comparison_reports_what_differs() -> None:
    outputs = {"near": torch.ones(3), "far": torch.ones(3), "small": torch.zeros(1), "count": torch.tensor([3])}
    overrides = {"out.small": {"relative": 0.1, "relative_to_largest_of": "out.*a*"}}
    golden = Golden("example", {"tolerance": {"relative": 1e-3, "overrides": overrides}}, {}, outputs, {})
    found = {name: tensor.clone() for name, tensor in outputs.items()}
    found["near"] += 9e-4
    found["small"] += 0.09
    assert differences(golden, found) == []

    found["far"] += 2e-3
    found["count"] += 1
    found["small"] += float("nan")
    lines = differences(golden, {name: found[name] for name in ("far", "count", "small")})
    assert [line.split(":")[0] for line in lines] == ["near", "far", "small", "count"]


def example(outputs: dict[str, torch.Tensor], tolerance: dict[str, object], **config: object) -> Golden:
    return Golden("example", {"tolerance": {"relative": 1e-3} | tolerance, "config": config}, {}, outputs, {})


def test_parameters_without_a_gradient_do_not_count() -> None:
    outputs = {"param_norms_0": torch.ones(3), "after.b": torch.ones(2), "after.c": torch.ones(2)}
    golden = example(outputs, {"ignore_parameters": ["b"]}, param_names=["a", "b", "c"])
    found = {name: tensor.clone() for name, tensor in outputs.items()}
    found["param_norms_0"][1] = found["after.b"][0] = 2.0
    assert differences(golden, found) == []
    found["param_norms_0"][2] = found["after.c"][0] = 2.0
    assert [line.split(":")[0] for line in differences(golden, found)] == ["param_norms_0", "after.c"]


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [({"absolute": 0.1}, 0.1), ({"relative": 0.01}, 1.0), ({"absolute": 2.0, "relative": 0.01}, 2.0)],
)
def test_the_most_specific_override_decides(rule: dict[str, float], allowed: float) -> None:
    golden = example({"loss": torch.tensor(100.0)}, {"overrides": {"out.loss": rule, "out.*": {"relative": 1.0}}})
    assert differences(golden, {"loss": torch.tensor(100.0 + 0.99 * allowed)}) == []
    assert differences(golden, {"loss": torch.tensor(100.0 + 1.01 * allowed)}) != []


def test_infinities_are_equal_to_themselves_alone() -> None:
    golden = example({"log_snr": torch.tensor([1.0, torch.inf])}, {})
    assert differences(golden, {"log_snr": torch.tensor([1.0, torch.inf])}) == []
    assert differences(golden, {"log_snr": torch.tensor([1.1, torch.inf])}) != []
    assert differences(golden, {"log_snr": torch.tensor([1.0, 9.0])}) != []
