"""The textbook's degradation."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.data.degradations.base import Degradation


@dataclass(frozen=True, kw_only=True)
class Bicubic(Degradation):
    """Bicubic interpolation with a filter as wide as the reduction: MATLAB's and Pillow's, on which papers compare."""

    kind: Literal["bicubic"] = "bicubic"

    def _degrade(
        self,
        image: Float[Tensor, "c h w"],
        factor: int,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Float[Tensor, "c h2 w2"]:
        height, width = (length // factor for length in image.shape[-2:])
        return F.interpolate(image[None], (height, width), mode="bicubic", antialias=True, align_corners=False)[0]
