"""The networks that judge reconstructions, loaded once; what is not at hand is said, not guessed."""

from dataclasses import dataclass
from pathlib import Path

import torch

from calotype.evaluation.features import EfficientNetLite0Features, ImageFeatures
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

    distance: FeatureDistance
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
    Networks see colours: for images of neither 1 nor 3 channels there are none.

    Raises:
        UserError: a file that was named cannot be used.
    """
    if channels not in (1, 3):
        reason = f"not available for {channels} channels: the networks see 1 or 3"
        names = (PERCEPTUAL, SET_DISTANCES, *((INCEPTION,) if inception is not None else ()))
        return Instruments(None, (), dict.fromkeys(names, reason))
    missing: dict[str, str] = {}
    features: list[ImageFeatures] = []
    perceptual: Perceptual | None = None
    if vgg16 is not None:
        perceptual = _vgg16(vgg16, lpips_heads)
    else:
        try:
            perceptual = _squeezenet()
        except UserError as error:
            missing[PERCEPTUAL] = str(error)
    try:
        features.append(EfficientNetLite0Features())
    except UserError as error:
        missing[SET_DISTANCES] = str(error)
    if inception is not None:
        features.append(InceptionFeatures(inception))
    for network in (*features, *(() if perceptual is None else (perceptual.distance,))):
        network.to(device)
    return Instruments(perceptual, tuple(features), missing)


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
