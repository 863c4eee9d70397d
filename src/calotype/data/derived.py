"""Fields that are made from the image itself: what a model learns to complete, enlarge or vary."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from calotype.data.degradations import Bicubic, Degradations
from calotype.data.masks import RandomMasks
from calotype.utils.config import Config


class DerivedField(Config, ABC):
    """Makes the value of ``field`` from the image that a model is trained on."""

    field: str

    @abstractmethod
    def make(self, image: Float[Tensor, "c h w"], generator: torch.Generator) -> Any:
        """Return the field's value for an image in [-1, 1]; whatever is drawn comes from ``generator``."""


@dataclass(frozen=True, kw_only=True)
class MaskedImage(DerivedField):
    """The image and a random mask of what is known of it: a pair (image, known)."""

    kind: Literal["masked_image"] = "masked_image"
    field: str = "masked_image"
    masks: RandomMasks = RandomMasks()

    def make(
        self, image: Float[Tensor, "c h w"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "1 h w"]]:
        """Draw a mask."""
        return image, self.masks.draw(image.shape[1], image.shape[2], generator)


@dataclass(frozen=True, kw_only=True)
class LowResolution(DerivedField):
    """The image at 1 / ``factor`` of its size, and as bad as ``degradation`` makes it."""

    kind: Literal["low_resolution"] = "low_resolution"
    field: str = "low_resolution"
    factor: int = 4
    degradation: Degradations = Bicubic()

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor must be at least 2, not {self.factor}")

    def make(self, image: Float[Tensor, "c h w"], generator: torch.Generator) -> Float[Tensor, "c h2 w2"]:
        """Degrade the image."""
        return self.degradation.degrade(image, self.factor, generator)


@dataclass(frozen=True, kw_only=True)
class Reference(DerivedField):
    """The image itself."""

    kind: Literal["reference"] = "reference"
    field: str = "reference"

    def make(self, image: Float[Tensor, "c h w"], generator: torch.Generator) -> Float[Tensor, "c h w"]:  # noqa: ARG002
        """Return the image."""
        return image


DerivedFields = Annotated[MaskedImage | LowResolution | Reference, Field(discriminator="kind")]
