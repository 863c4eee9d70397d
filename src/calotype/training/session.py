"""Where a run executes: its device, its precision, its share of the global batch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from calotype.utils import distributed
from calotype.utils.errors import UserError
from calotype.utils.memory import keep_freed_memory

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True)
class Session:
    """A device and a precision, with the helpers that hide them (and torchrun) from the recipes."""

    device: torch.device
    bf16: bool

    def autocast(self) -> AbstractContextManager[None]:
        """Run the network's matrix products in bfloat16, if this session does."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module to call in training: it averages gradients over processes where there are several."""
        if distributed.world_size() == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=devices)

    def rows(self, batch_size: int) -> slice:
        """Return this process's rows of a global batch."""
        share = batch_size // distributed.world_size()
        return slice(distributed.rank() * share, (distributed.rank() + 1) * share)


def start_session(device: str = "auto", precision: Precision = "auto") -> Session:
    """Choose the device (``auto``: an accelerator if there is one) and the precision (``auto``: bf16 where it is fast).

    Raises:
        UserError: the device does not exist.
    """
    chosen = _device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    bf16 = fast_bf16(chosen) if precision == "auto" else precision == "bf16"
    return Session(chosen, bf16)


def fast_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, Callable[[], bool]] = {
        name: getattr(torch.cpu, name)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if hasattr(torch.cpu, name)
    }
    return device.type == "cpu" and any(supported() for supported in capabilities.values())


def _device(name: str) -> torch.device:
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator()
        name = accelerator.type if accelerator is not None else "cpu"
        if name == "cuda":
            return torch.device("cuda", torch.cuda.current_device())
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"device {name!r} is not available here: take auto, cpu, or an accelerator that is") from None
    return device
