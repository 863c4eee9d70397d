"""What a difference between prediction and target costs, image by image."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from calotype.utils.config import Config


class _Loss(Config, ABC):
    @abstractmethod
    def __call__(self, difference: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return the loss of every image."""


@dataclass(frozen=True, kw_only=True)
class L2Loss(_Loss):
    """The mean square over C, H, W."""

    kind: Literal["l2"] = "l2"

    def __call__(self, difference: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return the loss of every image."""
        return difference.square().mean(dim=(1, 2, 3))


@dataclass(frozen=True, kw_only=True)
class L1Loss(_Loss):
    """The mean absolute value over C, H, W."""

    kind: Literal["l1"] = "l1"

    def __call__(self, difference: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return the loss of every image."""
        return difference.abs().mean(dim=(1, 2, 3))


@dataclass(frozen=True, kw_only=True)
class HuberLoss(_Loss):
    """sqrt(mean square + c^2) - c: square where an image's error is far below ``c``, linear far above it.

    The pseudo-Huber loss of Eq. 8, arXiv:2310.14189, divided by the root of the number of elements, as is its c, so
    that ``c`` means the same at every size. There it is 0.00054.
    """

    c: float = 0.00054
    kind: Literal["huber"] = "huber"

    def __post_init__(self) -> None:
        if self.c <= 0:
            raise ValueError(f"c must be above 0, not {self.c}")

    def __call__(self, difference: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Return the loss of every image."""
        return (difference.square().mean(dim=(1, 2, 3)) + self.c**2).sqrt() - self.c


Loss = L2Loss | L1Loss | HuberLoss
