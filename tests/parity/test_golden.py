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
