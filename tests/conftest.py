"""Tests run on one thread: two cores that are busy elsewhere make two threads far slower than one."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

torch.set_num_threads(1)


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Gives every parameter a random value, in float64, and turns dropout off: no zero start hides a mistake."""

    def randomise(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        for parameter in module.double().parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        return module.eval()

    return randomise
