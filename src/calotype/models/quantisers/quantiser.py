"""What every quantiser is: latents to the codes that stand for them, and back from the codes' numbers."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn


class Quantised(NamedTuple):
    """Quantised latents, the quantiser's loss (a scalar, its weights included), and the numbers of the codes."""

    z: Float[Tensor, "b c h w"]
    loss: Float[Tensor, ""]
    indices: Int[Tensor, "..."]


class Quantiser(nn.Module, ABC):
    """Between encoder and decoder: the encoder's output is bounded to latents, and latents are replaced by codes.

    A diffusion model is trained on the latents in between.
    """

    @property
    @abstractmethod
    def codes(self) -> int:
        """How many codes there are."""

    def bound(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the latents for what an encoder says: the same, where codes may be anywhere."""
        return z

    @abstractmethod
    def forward(
        self,
        z: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b n h w"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Quantised:
        """Replace latents by codes; quantisers that draw do so with ``noise``, or by ``generator``."""

    @abstractmethod
    def look_up(self, indices: Int[Tensor, " n"]) -> Float[Tensor, "n c"]:
        """Return the codes that have these numbers."""

    def get_codebook_entry(
        self, indices: Int[Tensor, "..."], shape: tuple[int, int, int] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Return the codes of ``indices``: the latents that they stand for.

        ``shape`` (b, h, w) is needed where the indices do not have it.

        Raises:
            ValueError: the indices are no image, or not as many as ``shape`` says.
        """
        wanted = indices.shape if shape is None else shape
        if len(wanted) != 3 or math.prod(wanted) != indices.numel():
            raise ValueError(f"indices of shape {tuple(indices.shape)} do not fill (b, h, w) = {tuple(wanted)}")
        b, h, w = wanted
        return rearrange(self.look_up(indices.reshape(-1)), "(b h w) c -> b c h w", b=b, h=h, w=w)
