"""Frozen image encoders: images to one vector each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.encoders.cache import EncodingCache
from calotype.encoders.clip_features import CLIPImageFeatures
from calotype.encoders.image_features import EfficientNetLite0Features, ImageFeatures
from calotype.encoders.pretrained import folder_of, folder_with
from calotype.utils.config import Config
from calotype.utils.errors import UserError
from calotype.utils.files import digest

EFFICIENTNET = "efficientnet-lite0"


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig(Config):
    """A frozen image encoder: EfficientNet-Lite0, or a CLIP by its ``source`` (``encoders/pretrained.py:folder_of``);
    which weights it must have, and the ``channels`` of its vectors.
    """

    source: str = EFFICIENTNET
    fingerprint: str
    channels: int

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, not {self.channels}")

    @property
    def is_folder(self) -> bool:
        """Whether the network is read from a folder of its own."""
        return self.source != EFFICIENTNET

    def build(self) -> "ImageEncoder":
        """Return the encoder, which is loaded once and shared by all who ask for it.

        Raises:
            UserError: it is not on this machine, or has other weights.
        """
        return _shared(self)


class ImageEncoder:
    """Encodes each image once."""

    def __init__(self, config: ImageEncoderConfig, network: ImageFeatures) -> None:
        self.config, self.network, self.cache = config, network, EncodingCache()

    def to(self, device: torch.device | str) -> "ImageEncoder":
        """Move the network to ``device`` and return self."""
        self.network.to(device)
        return self

    def encode(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return one unit vector per image in [-1, 1] (3 channels, or 1 that is repeated), on the CPU."""
        images = images.detach().float().cpu().contiguous()
        keys = [digest(self.config.fingerprint, repr(tuple(image.shape)), image.numpy().tobytes()) for image in images]
        return torch.stack(self.cache.fetch(keys, lambda which: self._vectors(images[which])))

    def _vectors(self, images: Tensor) -> Sequence[Tensor]:
        return list(F.normalize(self.network(images).cpu(), dim=1))


def describe_image_encoder(source: str = EFFICIENTNET, *, download: bool = False) -> ImageEncoderConfig:
    """Return the configuration of the image encoder at ``source``.

    Raises:
        UserError: it is not there, or cannot be read.
    """
    network: ImageFeatures
    if source == EFFICIENTNET:
        network = EfficientNetLite0Features()
    else:
        folder = folder_of(source, download=download)
        network = CLIPImageFeatures(folder)
        source = str(folder) if Path(source).expanduser().is_dir() else source
    return ImageEncoderConfig(source=source, fingerprint=network.fingerprint, channels=network.width)


@lru_cache(maxsize=4)
def _shared(config: ImageEncoderConfig) -> ImageEncoder:
    if config.is_folder:
        return ImageEncoder(config, CLIPImageFeatures(folder_with(config.source, config.fingerprint)))
    network = EfficientNetLite0Features()
    if network.fingerprint != config.fingerprint:
        raise UserError(f"{config.source} has other weights than the frozen network that this model was trained with")
    return ImageEncoder(config, network)
