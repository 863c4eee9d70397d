"""What the tests of `interop/diffusers` share: networks with weights that hide no mistake, and a measure."""

from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = 1e-4


def varied(module: nn.Module) -> Any:
    """Move all weights away from their start, where zeros and ones hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        start = torch.ones_like(parameter) if (parameter == 1).all() else torch.zeros_like(parameter)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
        parameter.data = start + torch.randn(parameter.shape, generator=generator) / fan_in**0.5
    return module.eval()


def built(config: dict[str, Any]) -> Any:
    """Make what a configuration of diffusers describes."""
    import diffusers

    kind = getattr(diffusers, config["_class_name"])
    return varied(kind(**{key: value for key, value in config.items() if not key.startswith("_")}))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def error(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference in units of the largest value."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()
