"""What a training begins with where it does not begin with random weights."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class InitialWeights:
    """The state dict that a model begins with, and the name that config.json remembers it by."""

    name: str
    state: Mapping[str, Tensor]
