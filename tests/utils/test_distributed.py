"""One process; two are in tests/training/test_ranks.py."""

import os

import pytest
import torch
import torch.distributed as dist

from calotype.utils import distributed


def test_without_torchrun_everything_is_trivial() -> None:
    tensor = torch.tensor([1.0, 2.0])
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.average(tensor) is tensor
    assert [distributed.any_rank(flag) for flag in (True, False)] == [True, False]
    distributed.barrier()


@pytest.mark.parametrize("size", [None, "1"])
def test_no_group_for_one_process(size: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if size:
        monkeypatch.setenv("WORLD_SIZE", size)
    else:
        monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.process_group():
        assert not dist.is_initialized()


def test_a_group_is_joined_once_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of two processes, the group of one."""
    joined = dist.init_process_group

    def join(backend: str, **options: object) -> None:
        joined("gloo", store=dist.HashStore(), rank=0, world_size=1)

    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", join)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with distributed.process_group():
        with distributed.process_group():
            assert dist.is_initialized()
        assert dist.is_initialized(), "the inner block did not join, so it does not leave"
        tensor = torch.tensor([1.0, 2.0], requires_grad=True)
        assert distributed.average(tensor).tolist() == [1.0, 2.0]
        assert not distributed.average(tensor).requires_grad
        assert distributed.any_rank(True)
        assert not distributed.any_rank(False)
    assert not dist.is_initialized()
