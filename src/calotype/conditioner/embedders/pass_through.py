"""Embeddings or images that go to the network as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from calotype.conditioner.embedders.arrays import as_tensor, stack
from calotype.conditioner.embedders.base import Embedder, FieldConfig
from calotype.diffusion.conditioning import Conditioning

_FORMS = {"context": "n x {}", "vector": "{}", "concat": "{} x height x width"}


@dataclass(frozen=True, kw_only=True)
class PassThroughConfig(FieldConfig):
    """A field whose values fill ``slot``: ``context`` tokens (n, channels), a ``vector`` (channels) or, to be joined to
    the latents, a ``concat`` image (channels, h, w) of their size.

    The null is ``zeros``, or there is none.
    """

    kind: Literal["pass_through"] = "pass_through"
    field: str
    slot: Literal["context", "concat", "vector"]
    channels: int
    null: Literal["zeros", "none"] = "zeros"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, not {self.channels}")
        self.check_dropout(null=self.null != "none")

    @property
    def context_channels(self) -> int | None:
        """Width of the tokens, if values are tokens."""
        return self.channels if self.slot == "context" else None

    def build(self) -> "PassThrough":
        """Make the embedder."""
        return PassThrough(self)


class PassThrough(Embedder):
    """Fills the one slot that its configuration names; has no weights."""

    def __init__(self, config: PassThroughConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout

    @property
    def has_null(self) -> bool:
        """Whether zeros stand for a missing value."""
        return self.config.null == "zeros"

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is an array of the slot's shape."""
        return self._fits(value) is not None

    def prepare(self, values: Sequence[Any]) -> Float[Tensor, "b ..."]:
        """Stack arrays, float32 at least."""
        if not self.has_null and any(value is None for value in values):
            raise self.missing()
        form = _FORMS[self.config.slot].format(self.config.channels)
        stacked = stack(values, self._fits, missing=0.0, wanted=f"{self.field} must be arrays of {form}")
        return self.null(len(values)) if stacked is None else stacked

    def null(self, count: int) -> Float[Tensor, "b ..."]:
        """Return zeros; tokens are one, as attention to many equal ones is attention to one."""
        if not self.has_null or self.config.slot == "concat":
            raise self.missing()
        shape = (self.config.channels,) if self.config.slot == "vector" else (1, self.config.channels)
        return torch.zeros(count, *shape)

    def forward(self, inputs: Float[Tensor, "b ..."], drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Pass values on."""
        if drop is not None and self.has_null:
            inputs = torch.where(drop.view(-1, *[1] * (inputs.ndim - 1)), 0.0, inputs)
        return Conditioning(**{self.config.slot: inputs})

    def _fits(self, value: Any) -> Tensor | None:
        tensor = as_tensor(value)
        dims, axis = {"context": (2, 1), "vector": (1, 0), "concat": (3, 0)}[self.config.slot]
        if tensor is None or tensor.ndim != dims or tensor.shape[axis] != self.config.channels or not tensor.numel():
            return None
        return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
