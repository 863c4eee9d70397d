import pytest
import torch
from torch import nn

from calotype.training.session import start_session
from calotype.utils import distributed
from calotype.utils.errors import UserError


def test_rows_cover_the_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session, found = start_session("cpu"), []
    assert list(range(8))[session.rows(8)] == list(range(8))
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    for rank in range(4):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        found += list(range(8))[session.rows(8)]
    assert found == list(range(8))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_precision(precision: str, dtype: torch.dtype) -> None:
    with start_session("cpu", precision).autocast():
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


def test_one_process_calls_the_module_itself() -> None:
    module = nn.Linear(2, 2)
    assert start_session("cpu").wrap(module) is module


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(UserError, match=f"device '{device}' is not available here") as error:
        start_session(device)
    assert "\n" not in str(error.value)
