"""The networks that judge reconstructions, loaded once; what is not at hand is said, not guessed."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calotype.encoders.image_features import EfficientNetLite0Features, ImageFeatures
from calotype.evaluation.inception_features import InceptionFeatures
from calotype.losses.feature_distance import FeatureDistance
from calotype.losses.perceptual import SqueezeNetPerceptualConfig, VGG16PerceptualConfig
from calotype.losses.vgg import LPIPS
from calotype.utils.errors import UserError

PERCEPTUAL = "perceptual distance"
SET_DISTANCES = "rFD and rKID"
INCEPTION = "rFID"


@dataclass(frozen=True)
class Perceptual:
    """A distance between two images in the features of a network, with its name and how it is measured."""

    distance: nn.Module
    name: str
    protocol: str


@dataclass(frozen=True)
class Instruments:
    """Networks to judge with; ``missing`` maps the name of a measure that cannot be taken to the reason."""

    perceptual: Perceptual | None
    features: tuple[ImageFeatures, ...]
    missing: dict[str, str]


def load_instruments(
    channels: int,
    device: torch.device,
    *,
    vgg16: Path | None = None,
    lpips_heads: Path | None = None,
    inception: Path | None = None,
) -> Instruments:
    """Load what can judge images of ``channels``.

    The perceptual distance is SqueezeNet's, or LPIPS where ``vgg16`` names a file of its weights (with ``lpips_heads``
    where the channel weights are in a file of their own). ``inception`` names a file of FID's Inception network.
    Networks see colours: of images of neither 1 nor 3 channels the perceptual distance is that of each channel as grey,
    and there is no distance between sets.

    Raises:
        UserError: a file that was named cannot be used.
    """
    colours = channels in (1, 3)
    missing: dict[str, str] = {}
    if not colours:
        names = (SET_DISTANCES, *((INCEPTION,) if inception is not None else ()))
        missing = dict.fromkeys(names, f"not available for {channels} channels: the networks see 1 or 3")
    features: list[ImageFeatures] = []
    perceptual: Perceptual | None = None
    if vgg16 is not None:
        perceptual = _vgg16(vgg16, lpips_heads)
    else:
        try:
            perceptual = _squeezenet()
        except UserError as error:
            missing[PERCEPTUAL] = str(error)
    if perceptual is not None and not colours:
        perceptual = _of_each_channel(perceptual)
    if colours:
        try:
            features.append(EfficientNetLite0Features())
        except UserError as error:
            missing[SET_DISTANCES] = str(error)
    if inception is not None and colours:
        features.append(InceptionFeatures(inception))
    for network in (*features, *(() if perceptual is None else (perceptual.distance,))):
        network.to(device)
    return Instruments(perceptual, tuple(features), missing)


class EachChannel(nn.Module):
    """The mean of a distance over channels, each of them seen as a grey image."""

    def __init__(self, distance: FeatureDistance) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 1 1"]:
        """Return the mean of each pair."""
        pairs = zip(a.split(1, dim=1), b.split(1, dim=1), strict=True)
        return torch.stack([self.distance(*pair) for pair in pairs]).mean(0)


def _of_each_channel(perceptual: Perceptual) -> Perceptual:
    assert isinstance(perceptual.distance, FeatureDistance)
    distance = EachChannel(perceptual.distance)
    return Perceptual(
        distance, f"{perceptual.name}, by channel", f"Mean over channels, each as grey. {perceptual.protocol}"
    )


def _squeezenet() -> Perceptual:
    return Perceptual(
        SqueezeNetPerceptualConfig().build(),
        "perceptual distance, SqueezeNet",
        "LPIPS's formula on seven maps of SqueezeNet 1.1 (ImageNet weights), all channels weighing the same: "
        "0 is equal, 1 the most. Numbers of one network say nothing about another's.",
    )


def _vgg16(weights: Path, heads: Path | None) -> Perceptual:
    distance = VGG16PerceptualConfig(weights=str(weights), heads=None if heads is None else str(heads)).build()
    if _learned(distance):
        return Perceptual(distance, "LPIPS, VGG16", f"LPIPS (arXiv:1801.03924) on VGG16, weights {weights.name}.")
    return Perceptual(
        distance,
        "perceptual distance, VGG16",
        f"LPIPS's formula on five maps of VGG16, weights {weights.name}, all channels weighing the same: this is not "
        "LPIPS, whose channel weights were not given.",
    )


def _learned(distance: LPIPS) -> bool:
    """Whether channels have weights of their own."""
    heads = [value for name, value in distance.state_dict().items() if name.startswith("lin")]
    return any(float(head.max() - head.min()) > 0 for head in heads)
