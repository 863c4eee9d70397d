"""What every degradation promises."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.utils.config import Config


class Degradation(Config, ABC):
    """Makes an image ``factor`` times smaller than it was, and perhaps worse."""

    def degrade(
        self, image: Float[Tensor, "c h w"], factor: int, generator: torch.Generator
    ) -> Float[Tensor, "c h2 w2"]:
        """Return an image of h // factor x w // factor pixels for one in [-1, 1], clipped to that.

        Rows and columns beyond a multiple of the factor are left out, at the bottom and at the right. (The reference
        mixes up height and width there, and cuts other parts of images that are not square.) The result depends on the
        image, the factor and the state of the generator alone.

        Raises:
            ValueError: the image is smaller than ``factor``.
        """
        height, width = (length // factor for length in image.shape[-2:])
        if factor < 1 or not height or not width:
            found = f"{image.shape[-1]} x {image.shape[-2]}"
            raise ValueError(f"factor must be at least 1 and at most the image's sides, {found}, not {factor}")
        cut = image[:, : height * factor, : width * factor].float().clamp(-1, 1)
        return self._degrade(cut, factor, generator).clamp(-1, 1)

    @abstractmethod
    def _degrade(
        self, image: Float[Tensor, "c h w"], factor: int, generator: torch.Generator
    ) -> Float[Tensor, "c h2 w2"]:
        """Do it, to an image whose sides are multiples of the factor."""
