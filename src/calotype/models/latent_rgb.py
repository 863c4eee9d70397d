"""The cheapest look at latents: one colour per position, by a linear map."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class LatentToRGB(Config):
    """``colour = weight @ z + bias`` at every position of normalised latents z.

    ``weight`` has a row for each channel of the images: three in most, but as many as there are. It is measured on the
    training images (``training.latent_rgb.latent_to_rgb``) and kept in the artifact's config.json under ``latent.rgb``.
    """

    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.weight) != len(self.bias) or len({len(row) for row in self.weight}) != 1:
            raise ValueError(f"weight must be {len(self.bias)} rows of equal length, one for each bias")

    def __call__(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return images in about [-1, 1] of one pixel per latent position."""
        weight, bias = latents.new_tensor(self.weight), latents.new_tensor(self.bias)
        return (latents.movedim(1, -1) @ weight.T + bias).movedim(-1, 1)
