"""What may be done to latents in training so that a decoder bears more than its encoder's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.training.draws import Draws
from calotype.utils import distributed
from calotype.utils.config import Config
from calotype.utils.seeds import generator

SMALLEST = 32
"""Pixels to which images may be scaled down: below it discriminators and perceptual networks have nothing to see."""


@dataclass(frozen=True, kw_only=True)
class EquivarianceConfig(Config):
    """Scaled and turned latents shall be decoded to the scaled and turned image: EQ-VAE, Eq. 5 of arXiv:2502.09509.

    With ``probability`` a step's latents and images are scaled by a factor from ``scales`` (uniform) and turned by one
    of ``quarter_turns``; else they stay as they are.
    """

    probability: float = 0.5
    scales: tuple[float, float] = (0.25, 1.0)
    quarter_turns: tuple[int, ...] = (0, 1, 2, 3)

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if not 0 < self.scales[0] <= self.scales[1] <= 1:
            raise ValueError(f"scales must be two factors up to 1, the smaller first, not {self.scales}")
        if not self.quarter_turns:
            raise ValueError("quarter_turns must name one number of turns or more; (0,) is none")


@dataclass(frozen=True, kw_only=True)
class DecoderNoiseConfig(Config):
    """The decoder sees latents with noise, as a diffusion model's samples have errors: arXiv:2510.11690, Section 4.3.

    With ``probability`` an image's latents are decoded as ``z + sigma noise``, ``sigma = |n| tau`` for a standard
    normal n, in units of each channel's standard deviation.
    """

    tau: float = 0.2
    probability: float = 1.0

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if self.tau < 0:
            raise ValueError(f"tau must not be negative: {self.tau}")


@dataclass(frozen=True)
class Transformation:
    """Scaling to ``size`` (height and width of the latents), then turning by ``quarter_turns`` to the left."""

    size: tuple[int, int]
    quarter_turns: int

    def __call__(self, values: Float[Tensor, "b c h w"], factor: int = 1) -> Float[Tensor, "b c h2 w2"]:
        """Transform latents, or images of ``factor`` pixels per latent."""
        size = (self.size[0] * factor, self.size[1] * factor)
        if values.shape[2:] != size:
            values = F.interpolate(values, size, mode="bilinear", antialias=True)
        return values.rot90(self.quarter_turns, dims=(2, 3)) if self.quarter_turns else values


def draw_transformation(
    config: EquivarianceConfig | None, draws: Draws, image_size: Sequence[int], factor: int
) -> Transformation:
    """Draw what a step does to its images of this height and width, and to their latents."""
    size = (image_size[0] // factor, image_size[1] // factor)
    chance = generator(draws.seed, "equivariance", draws.seen)
    if config is None or torch.rand((), generator=chance) >= config.probability:
        return Transformation(size, 0)
    smallest = min(1.0, max(config.scales[0], SMALLEST / min(image_size)))
    largest = max(smallest, config.scales[1])
    scale = smallest + (largest - smallest) * float(torch.rand((), generator=chance))
    turns = config.quarter_turns[int(torch.randint(len(config.quarter_turns), (), generator=chance))]
    return Transformation((max(1, round(scale * size[0])), max(1, round(scale * size[1]))), turns % 4)


def add_noise(
    latents: Float[Tensor, "b c h w"], config: DecoderNoiseConfig | None, draws: Draws
) -> Float[Tensor, "b c h w"]:
    """Return what the decoder sees of these latents; the standard deviation is that of the global batch."""
    if config is None:
        return latents
    dims = (0, 2, 3)
    mean, square = (
        distributed.average(each) for each in (latents.detach().mean(dims), latents.detach().square().mean(dims))
    )
    std = (square - mean.square()).clamp(min=0).sqrt()
    sigma = config.tau * draws.normal("decoder noise strength").abs()
    sigma = sigma * (draws.uniform("decoder noise") < config.probability)
    noise = draws.normal("decoder noise", *latents.shape[1:]).to(latents)
    return latents + sigma.to(latents)[:, None, None, None] * std[:, None, None] * noise


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be between 0 and 1, not {probability}")
