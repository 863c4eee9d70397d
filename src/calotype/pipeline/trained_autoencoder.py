"""A trained autoencoder, with what it was trained on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.data.pixel_format import PixelFormat
from calotype.models.autoencoder import Autoencoder
from calotype.models.latent_rgb import LatentToRGB
from calotype.utils.size import Size


@dataclass(frozen=True)
class TrainedAutoencoder:
    """An autoencoder with what it was trained on: its pixel format and image size.

    ``rgb`` maps normalised latents to colours, where it was measured.
    """

    model: Autoencoder
    pixel_format: PixelFormat
    size: Size
    rgb: LatentToRGB | None = None

    @torch.no_grad()
    def reconstruct(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Encode and decode (through the posterior's mode), clamped to [-1, 1]; the result is on the CPU."""
        device = self.model.latent_shift.device
        latents = self.model.encode(images.to(device)).mode()
        return self.model.decode(latents).float().clamp(-1, 1).cpu()
