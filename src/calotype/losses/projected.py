"""A perceptual distance for any number of channels: the network sees three mixtures of them, others at every step."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calotype.losses.feature_distance import FeatureDistance
from calotype.utils.seeds import generator as seeded


class ProjectedDistance(nn.Module):
    """``network(P x, P y)`` with a projection P from all channels to three, another one for every call.

    Images of one or three channels the network sees as they are.
    """

    def __init__(self, network: FeatureDistance) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        inputs: Float[Tensor, "b c h w"],
        reconstructions: Float[Tensor, "b c h w"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b 1 1 1"]:
        """Return the distance of each pair under one projection from ``generator`` (without one, always the same)."""
        channels = inputs.shape[1]
        if channels in (1, 3):
            return self.network(inputs, reconstructions)
        projection = draw_projection(channels, generator or seeded("projection")).to(inputs.device)
        return self.network(
            *(torch.einsum("dc,bchw->bdhw", projection.to(each), each) for each in (inputs, reconstructions))
        )


def draw_projection(channels: int, generator: torch.Generator) -> Float[Tensor, "3 channels"]:
    """Draw three directions of length one in the space of channels, at right angles where there are so many."""
    directions = torch.randn(max(3, channels), channels, generator=generator)
    if channels >= 3:
        directions = torch.linalg.qr(directions).Q.T
    return F.normalize(directions[:3], dim=1)
