"""The LPIPS formula: how far apart two images are in the features of a frozen network (arXiv:1801.03924)."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calotype.losses.precision import at_least_float32
from calotype.utils.errors import UserError


class FeatureDistance(nn.Module, ABC):
    """Distance between images in [-1, 1] with three channels, or one that is repeated.

    ``d = sum_l mean_hw weigh_l((u_l(x) - u_l(y))^2)`` over the feature maps ``l`` that ``taps`` returns, where ``u``
    scales the vector of channels at every position to length one (Eq. 1, arXiv:1801.03924). Images with a side below
    ``smallest_size`` pixels are enlarged by a whole number first. Parameters are frozen, the module is always in
    evaluation mode, and distances are computed in at least float32 whatever the network runs in. The first image is a
    constant: no gradient flows to it.
    """

    smallest_size: int
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format

    @abstractmethod
    def taps(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the feature maps of ``images``, each (b, c, h, w) with its own c, h and w."""

    @abstractmethod
    def weigh(self, level: int, squares: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """Combine the channels of tap ``level``."""

    def forward(
        self, inputs: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b 1 1 1"]:
        """Return the distance of each pair.

        Raises:
            UserError: the images have neither one nor three channels.
        """
        with torch.no_grad():
            targets = self.taps(self._prepare(inputs))
        features = self.taps(self._prepare(reconstructions))
        levels = [
            self.weigh(level, (_unit(target) - _unit(feature)).square()).mean(dim=(2, 3), keepdim=True)
            for level, (target, feature) in enumerate(zip(targets, features, strict=True))
        ]
        return torch.stack(levels).sum(dim=0)

    def freeze(self) -> None:
        """Stop gradients to the parameters and enter evaluation mode; called once the weights are in place."""
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FeatureDistance":
        """Stay in evaluation mode, whatever ``mode`` a parent module asks for."""
        del mode
        return super().train(False)

    def _prepare(self, images: Tensor) -> Tensor:
        channels, size = images.shape[1], min(images.shape[2:])
        if channels not in (1, 3):
            raise UserError(
                f"this perceptual loss sees 1 or 3 channels, not {channels}: choose the perceptual kind 'projected'"
            )
        if channels == 1:
            images = images.expand(-1, 3, -1, -1)
        if size < self.smallest_size:
            images = F.interpolate(images, scale_factor=math.ceil(self.smallest_size / size), mode="bilinear")
        return images.contiguous()


def _unit(features: Tensor) -> Tensor:
    """Scale the channels at each position to length one; a position without any activation stays zero."""
    features = at_least_float32(features)
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)
