"""Embeddings or images that go to the network as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from calotype.conditioner.embedders.arrays import as_tensor, stack
from calotype.conditioner.embedders.base import Embedder, FieldConfig, Widths
from calotype.diffusion.conditioning import Conditioning
from calotype.models.autoencoder import Autoencoder

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

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Return the channels, for the slot."""
        return Widths(**{self.slot: self.channels})

    def build(self) -> "PassThrough":
        """Make the embedder."""
        return PassThrough(self)


class PassThrough(Embedder):
    """Fills the one slot that its configuration names; has no weights."""

    def __init__(self, config: PassThroughConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self._factor = 1

    @property
    def has_null(self) -> bool:
        """Whether zeros stand for a missing value."""
        return self.config.null == "zeros"

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is an array of the slot's shape."""
        return self._fits(value) is not None

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Float[Tensor, "b ..."]:
        """Stack arrays, float32 at least."""
        if not self.has_null and any(value is None for value in values):
            raise self.missing()
        form = _FORMS[self.config.slot].format(self.config.channels)
        stacked = stack(values, self._fits, missing=0.0, wanted=f"{self.field} must be arrays of {form}")
        return self.null(len(values), size) if stacked is None else stacked

    def attach(self, autoencoder: Autoencoder) -> None:
        """Note how much smaller the latents are than the images."""
        self._factor = autoencoder.factor

    def null(self, count: int, size: tuple[int, int] | None = None) -> Float[Tensor, "b ..."]:
        """Return zeros; tokens are one, as attention to many equal ones is attention to one."""
        if not self.has_null:
            raise self.missing()
        channels = self.config.channels
        if self.config.slot == "concat":
            if size is None:
                raise self.missing()
            return torch.zeros(count, channels, *(side // self._factor for side in size))
        return torch.zeros(count, *((channels,) if self.config.slot == "vector" else (1, channels)))

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
