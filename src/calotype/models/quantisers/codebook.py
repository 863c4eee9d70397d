"""Quantisers whose codes are learned vectors."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from calotype.models.quantisers.quantiser import Quantiser


class Codebook(Quantiser):
    """A quantiser with a learned vector per code, of which some may not be in use.

    Those in use are the buffer ``used``, in the order of their new numbers; it is None where all are.
    """

    used: Tensor | None

    def __init__(self, remap: tuple[int, ...] | None) -> None:
        super().__init__()
        self.register_buffer("used", None if remap is None else torch.tensor(remap))

    @property
    @abstractmethod
    def codebook(self) -> Float[Tensor, "n c"]:
        """All codes, by their numbers before any remapping."""

    @property
    def codes(self) -> int:
        """How many codes there are, those not in use included."""
        return len(self.codebook)

    def look_up(self, indices: Int[Tensor, " n"]) -> Float[Tensor, "n c"]:
        """Return the codes of ``indices``, remapped where the quantiser remaps.

        One number behind the codes in use stands for the first of them.
        """
        if self.used is not None:
            indices = self.used.gather(0, torch.where(indices == len(self.used), 0, indices))
        return F.embedding(indices, self.codebook)


def check_codes(codes: int, remap: tuple[int, ...] | None) -> None:
    """Raise ``ValueError`` unless there are codes and ``remap`` names some of them."""
    if codes < 1:
        raise ValueError(f"codes must be at least 1, not {codes}")
    if remap is not None and (not remap or len(set(remap)) < len(remap) or not 0 <= min(remap) <= max(remap) < codes):
        raise ValueError(f"remap must name codes from 0 to {codes - 1}, each once")
