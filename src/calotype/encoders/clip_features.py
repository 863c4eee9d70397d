"""Image vectors of a CLIP network, read from a folder."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.encoders.image_features import ImageFeatures
from calotype.encoders.pretrained import architecture, fingerprint, load
from calotype.utils.errors import UserError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class CLIPImageFeatures(ImageFeatures):
    """The projected image vectors of a CLIP network (arXiv:2103.00020), in the space of its texts.

    ``folder`` holds a whole CLIP or its vision half with the projection, as transformers saves them. Images are resized
    to the network's square (bicubic with antialiasing, the aspect is not kept) and normalised as in its training.

    Raises:
        UserError: the folder holds no such network.
    """

    network_name = "CLIP"

    def __init__(self, folder: Path, chunk: int = 64) -> None:
        super().__init__()
        if architecture(folder) not in ("clip", "clip_vision_model"):
            raise UserError(f"{folder} holds a network of kind {architecture(folder)!r}, not a CLIP")
        self.chunk, self.fingerprint = chunk, fingerprint(folder)
        self.short_name = f"CLIP({self.fingerprint[:8]})"
        self.network = load("CLIPVisionModelWithProjection", folder)
        self.size, self.width = self.network.config.image_size, self.network.config.projection_dim
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)
        self.freeze()

    @property
    def protocol(self) -> str:
        """How images become features, in a sentence."""
        return (
            f"Features: projected vectors of {self.short_name}, {self.width} numbers, of images resized to "
            f"{self.size} x {self.size} (bicubic, antialiased)."
        )

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.get_buffer("mean").device

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return the features of float32 images on the module's device."""
        images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True, align_corners=False)
        images = ((images.clamp(-1, 1) + 1) / 2 - self.get_buffer("mean")) / self.get_buffer("std")
        vectors: Tensor = self.network(pixel_values=images).image_embeds
        return vectors
