"""What every network takes besides x and t, checked against its configuration."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class TakesInputs(Protocol):
    """The part of a network's configuration that says what it takes."""

    @property
    def in_channels(self) -> int: ...
    @property
    def context_channels(self) -> int | None: ...
    @property
    def vector_channels(self) -> int | None: ...
    @property
    def num_classes(self) -> int | None: ...
    @property
    def factor(self) -> int: ...


def check_inputs(config: TakesInputs, x: Tensor, concat: Tensor | None, slots: Mapping[str, Tensor | None]) -> None:
    """Refuse a size or inputs that ``config`` does not ask for; ``slots`` are context, vector and label.

    Raises:
        ValueError: says what is wrong.
    """
    multiple = config.factor
    if x.shape[-2] % multiple or x.shape[-1] % multiple:
        raise ValueError(f"height and width must be multiples of {multiple}, not {x.shape[-2]}x{x.shape[-1]}")
    widths = {"context": config.context_channels, "vector": config.vector_channels, "label": config.num_classes}
    for name, given in slots.items():
        if (given is None) != (widths[name] is None):
            raise ValueError(f"this network {'takes no' if widths[name] is None else 'needs a'} {name}")
    channels = x.shape[1] + (0 if concat is None else concat.shape[1])
    if channels != config.in_channels:
        raise ValueError(f"x and concat must have {config.in_channels} channels together, not {channels}")
