"""The few things that change when torchrun starts several processes. Without it, every function is trivial."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """Return this process's number, 0 .. world_size() - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this process writes files and shows progress."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def total(tensor: Tensor) -> Tensor:
    """Return the sum of ``tensor`` over all processes."""
    if not dist.is_initialized():
        return tensor
    summed = tensor.detach().to(_device(tensor), copy=True)
    dist.all_reduce(summed)
    return summed.to(tensor.device)


def average(tensor: Tensor) -> Tensor:
    """Return the mean of ``tensor`` over all processes."""
    return tensor if not dist.is_initialized() else total(tensor) / dist.get_world_size()


def any_rank(flag: bool) -> bool:
    """Return whether ``flag`` is True on any process, so that all of them act alike."""
    if not dist.is_initialized():
        return flag
    votes = torch.tensor(float(flag))
    return bool(average(votes) > 0)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the group that torchrun's environment describes, if there is one, while the block runs."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) < 2 or dist.is_initialized():
        yield
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group(backend, timeout=timedelta(minutes=10))
    try:
        yield
    finally:
        dist.destroy_process_group()


def _device(tensor: Tensor) -> torch.device:
    """Where the group can reduce ``tensor``: nccl knows accelerators only."""
    return torch.device("cuda") if dist.get_backend() == "nccl" else tensor.device
