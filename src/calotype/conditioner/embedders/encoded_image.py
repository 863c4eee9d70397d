"""An image with a hole, seen through the model's own autoencoder: the reference's inpainting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from calotype.conditioner.embedders.arrays import as_tensor, stack
from calotype.conditioner.embedders.base import Embedder, FieldConfig, Widths
from calotype.diffusion.conditioning import Conditioning
from calotype.models.autoencoder import Autoencoder

Encode = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b d h2 w2"]]


@dataclass(frozen=True, kw_only=True)
class EncodedImageConfig(FieldConfig):
    """The latents of the masked image, then the mask, which is +1 in the hole and -1 where pixels are known.

    ``latents`` are ``normalised`` as those that the network denoises, or ``raw``, as the autoencoder gives them (the
    reference's). The null is an image of which ``nothing`` is known, or there is none.
    """

    kind: Literal["encoded_image"] = "encoded_image"
    field: str = "masked_image"
    latents: Literal["normalised", "raw"] = "normalised"
    null: Literal["nothing", "none"] = "nothing"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self.check_dropout(null=self.null != "none")

    def widths(self, latent_channels: int) -> Widths:
        """Return the channels of the latents and of the mask."""
        return Widths(concat=latent_channels + 1)

    def build(self) -> "EncodedImage":
        """Make the embedder."""
        return EncodedImage(self)


class EncodedImage(Embedder):
    """Fills ``concat``; has no weights of its own, ``attach`` tells it the autoencoder.

    A value is a pair: an image (c, h, w) in [-1, 1] and its ``known`` mask (1, h, w), 1 where a pixel is known.
    """

    def __init__(self, config: EncodedImageConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self._encode: Encode | None = None
        self._channels = 3

    @property
    def has_null(self) -> bool:
        """Whether an image may be unknown as a whole."""
        return self.config.null == "nothing"

    def attach(self, autoencoder: Autoencoder) -> None:
        """Encode by ``autoencoder``, which stays the model's: it is neither in the state dict nor in a deep copy."""
        normalised = self.config.latents == "normalised"

        def encode(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
            latents = autoencoder.encode(images.to(next(autoencoder.parameters(), images).dtype)).mode()
            return autoencoder.normalise(latents) if normalised else latents

        self._encode, self._channels = encode, autoencoder.image_channels

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is an image with its mask."""
        return self._fits(value) is not None

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Float[Tensor, "b c h w"]:
        """Stack images and, as last channel, masks."""
        if not self.has_null and any(value is None for value in values):
            raise self.missing()
        wanted = (
            f"{self.field} must be pairs: an image (channels, height, width) in [-1, 1], its mask (1, height, width)"
        )
        stacked = stack(values, self._fits, missing=0.0, wanted=wanted)
        return self.null(len(values), size) if stacked is None else stacked

    def null(self, count: int, size: tuple[int, int] | None = None) -> Float[Tensor, "b c h w"]:
        """Return images of which nothing is known."""
        if not self.has_null or size is None:
            raise self.missing()
        return torch.zeros(count, self._channels + 1, *size)

    @torch.no_grad()
    def forward(self, inputs: Float[Tensor, "b c h w"], drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Encode the known pixels; the hole is black (-1) to the autoencoder."""
        if self._encode is None:
            raise ValueError("this embedder needs the autoencoder: call Conditioner.attach(autoencoder) first")
        images, known = inputs[:, :-1], inputs[:, -1:] >= 0.5
        if drop is not None and self.has_null:
            known = known & ~drop[:, None, None, None]
        latents = self._encode(torch.where(known, images, -1.0))
        hole = 1 - 2 * known.to(latents.dtype)
        return Conditioning(concat=torch.cat([latents, F.interpolate(hole, latents.shape[-2:], mode="nearest")], dim=1))

    def _fits(self, value: Any) -> Tensor | None:
        if not isinstance(value, Sequence) or len(value) != 2:
            return None
        image, known = (as_tensor(part) for part in value)
        if image is None or known is None or not image.is_floating_point():
            return None
        if image.ndim != 3 or known.shape != (1, *image.shape[1:]):
            return None
        return torch.cat([image, known.to(image.dtype)])
