"""What a network is told beside the noisy image and the time."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The slots through which a condition reaches a network; every slot may be empty. Only the denoiser unpacks it.

    ``context`` are tokens for cross-attention (``context_mask``: True where a token may be seen), ``vector`` is added
    to the time embedding, ``label`` is a class index, ``concat`` is joined to the image over channels. ``len`` is
    the number of rows, 0 where every slot is empty.
    """

    context: Float[Tensor, "b n d"] | None = None
    context_mask: Bool[Tensor, "b n"] | None = None
    vector: Float[Tensor, "b v"] | None = None
    label: Int[Tensor, " b"] | None = None
    concat: Float[Tensor, "b c h w"] | None = None

    def __len__(self) -> int:
        return next((len(value) for value in self.slots().values()), 0)

    def slots(self) -> dict[str, Tensor]:
        """Return the slots that are filled, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Conditioning":
        """Move every slot to ``device``, and those of floating point to ``dtype``."""
        return Conditioning(
            **{
                name: value.to(device=device, dtype=dtype if value.is_floating_point() else None)
                for name, value in self.slots().items()
            }
        )

    @staticmethod
    def cat(first: "Conditioning", second: "Conditioning") -> "Conditioning":
        """Join two conditionings over the batch.

        Raises:
            ValueError: a slot is filled in one of them alone, or its shapes differ beyond the batch.
        """
        ours, theirs = first.slots(), second.slots()
        for name in sorted(ours.keys() ^ theirs.keys()):
            raise ValueError(f"{name}: only one of the two conditionings has it; fill it in both or in neither")
        for name, value in ours.items():
            if value.shape[1:] != theirs[name].shape[1:]:
                shapes = f"{tuple(value.shape[1:])} and {tuple(theirs[name].shape[1:])}"
                raise ValueError(f"{name}: the two conditionings must have one shape, not {shapes}")
        return Conditioning(**{name: torch.cat([value, theirs[name]]) for name, value in ours.items()})
