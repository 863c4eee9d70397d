"""What makes a small image of a large one, for training to undo it: one kind per file."""

from typing import Annotated

from pydantic import Field

from calotype.data.degradations.base import Degradation
from calotype.data.degradations.bicubic import Bicubic
from calotype.data.degradations.bsrgan import BSRGAN, BSRGAN_LIGHT

Degradations = Annotated[Bicubic | BSRGAN, Field(discriminator="kind")]
DEGRADATIONS: dict[str, Bicubic | BSRGAN] = {
    "bicubic": Bicubic(),
    "bsrgan": BSRGAN(),
    "bsrgan-light": BSRGAN_LIGHT,
}
"""Those that have a name."""

__all__ = ["BSRGAN", "BSRGAN_LIGHT", "DEGRADATIONS", "Bicubic", "Degradation", "Degradations"]
