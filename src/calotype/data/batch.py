"""What one training step sees."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images in [-1, 1] with the fields of their records.

    ``fields`` maps a field's name (``caption``, ``class``, ``style`` ...) to one value per image, ``None`` where the
    record has none; ``indices`` are the images' positions in their set.
    """

    images: Float[Tensor, "b c h w"]
    fields: dict[str, list[Any]]
    indices: Int[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.indices)
