"""Images larger than a network was trained on: evaluated in overlapping crops, averaged where they overlap.

The reference's ``split_input_params``: its weights, but crops that reach every border.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from itertools import product
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion import Conditioning, Denoiser
from calotype.pipeline import LatentDiffusion
from calotype.utils.config import Config
from calotype.utils.errors import UserError

POSITIONS = 2**14
"""The most positions of latents that a network is shown at once, unless a crop has more."""


class Crop(NamedTuple):
    """A rectangle of an image, in its positions; ``whole`` is the image's (height, width)."""

    top: int
    left: int
    height: int
    width: int
    whole: tuple[int, int]

    def of(self, image: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h2 w2"]:
        """Return this part of ``image``."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]

    @property
    def relative(self) -> tuple[float, float, float, float]:
        """Left, top, width and height as shares of the whole image."""
        height, width = self.whole
        return self.left / width, self.top / height, self.width / width, self.height / height


@dataclass(frozen=True, kw_only=True)
class Tiling(Config):
    """Crops of ``size`` (height, width) every ``stride`` positions, the last ones moved so that they end at the border.

    In an average a crop's positions count by their distance to its border, relative to its size (0 to 0.5) and clipped
    to ``weight_range``: to the ``nearest`` border (the reference's), or by the product of those along ``both`` axes,
    with which crops fade into each other at the borders of the image as well. ``crop_weights`` are ``equal``, or
    ``central``: a crop counts, too, by its distance to the border of the grid of crops, clipped to ``central_range``.
    """

    size: tuple[int, int] = (64, 64)
    stride: tuple[int, int] = (32, 32)
    weight_range: tuple[float, float] = (0.01, 0.5)
    distance: Literal["nearest", "both"] = "nearest"
    crop_weights: Literal["equal", "central"] = "equal"
    central_range: tuple[float, float] = (0.01, 0.5)

    def __post_init__(self) -> None:
        if not all(0 < step <= extent for step, extent in zip(self.stride, self.size, strict=True)):
            raise ValueError(f"stride must be positive and at most size {self.size}, not {self.stride}")
        for name in ("weight_range", "central_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be positive and in order, not {(low, high)}")

    def grid(self, height: int, width: int) -> tuple[list[int], list[int]]:
        """Return the tops and lefts of the crops of an image; an axis that is shorter than a crop has one."""
        return _starts(height, self.size[0], self.stride[0]), _starts(width, self.size[1], self.stride[1])

    def crops(self, height: int, width: int) -> list[Crop]:
        """Return the crops of an image, row by row."""
        size = min(self.size[0], height), min(self.size[1], width)
        return [Crop(top, left, *size, (height, width)) for top, left in product(*self.grid(height, width))]

    def weights(self, height: int, width: int, scale: Fraction | int = 1) -> Float[Tensor, "n h w"]:
        """Return what each crop's positions count in an image of (height, width) that is ``scale`` times as large."""
        crop = self.crops(height, width)[0]
        inside = self._inside(_scaled(crop.height, scale), _scaled(crop.width, scale))
        tops, lefts = self.grid(height, width)
        if self.crop_weights == "equal":
            return inside.expand(len(tops) * len(lefts), -1, -1)
        among = _distance_to_border(len(tops), len(lefts)).clamp(*self.central_range)
        return among.view(-1, 1, 1) * inside

    def _inside(self, height: int, width: int) -> Float[Tensor, "h w"]:
        """Return what the positions within a crop count."""
        if self.distance == "nearest":
            return _distance_to_border(height, width).clamp(*self.weight_range)
        rows, columns = (_distance_to_end(length).clamp(*self.weight_range) for length in (height, width))
        return rows[:, None] * columns

    def normalisation(self, height: int, width: int, scale: Fraction | int = 1) -> Float[Tensor, "h2 w2"]:
        """Return the sum of all weights at each position of the scaled image."""
        total = torch.zeros(_scaled(height, scale), _scaled(width, scale))
        for crop, weight in zip(self.crops(height, width), self.weights(height, width, scale), strict=True):
            _scaled_crop(crop, scale).of(total).add_(weight)
        return total


def tiled(
    function: Callable[[Float[Tensor, "b c h w"], Crop], Float[Tensor, "b d h2 w2"]],
    x: Float[Tensor, "b c h w"],
    tiling: Tiling,
    scale: Fraction | int = 1,
) -> Float[Tensor, "b d h3 w3"]:
    """Return the weighted average of ``function(crop of x, crop)`` over all crops: ``sum w f(crop) / sum w``.

    The function's images are ``scale`` times as large as its crops (a decoder's factor, 1 / an encoder's).

    Raises:
        ValueError: crops do not fall on whole positions of the scaled image.
    """
    height, width = x.shape[-2:]
    weights, total = tiling.weights(height, width, scale).to(x), None
    for crop, weight in zip(tiling.crops(height, width), weights, strict=True):
        part = function(crop.of(x), crop)
        if total is None:
            total = part.new_zeros(*part.shape[:2], _scaled(height, scale), _scaled(width, scale))
        _scaled_crop(crop, scale).of(total).add_(part * weight.to(part))
    assert total is not None
    return total / tiling.normalisation(height, width, scale).to(total)


def crop_conditioning(conditioning: Conditioning, crop: Crop) -> Conditioning:
    """Return what a crop is conditioned on: its part of ``concat``, and all of everything else."""
    if conditioning.concat is None:
        return conditioning
    if conditioning.concat.shape[-2:] != crop.whole:
        raise ValueError(f"concat must have the image's size {crop.whole}, not {tuple(conditioning.concat.shape[-2:])}")
    return replace(conditioning, concat=crop.of(conditioning.concat))


@dataclass(frozen=True, eq=False)
class TiledDenoiser(Denoiser):
    """A denoiser whose network sees crops; ``condition`` says what each crop is conditioned on.

    A layout that tells its crop needs a ``condition`` of its own, which embeds it anew with ``crop.relative``.
    """

    tiling: Tiling = Tiling()
    condition: Callable[[Conditioning, Crop], Conditioning] = crop_conditioning

    def output(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Float[Tensor, ""] | Float[Tensor, " b"],
        conditioning: Conditioning = Conditioning(),  # noqa: B008 (frozen)
    ) -> Float[Tensor, "b c h w"]:
        """Return the network's prediction, put together from those for the crops, of which it is shown many at once."""
        crops = self.tiling.crops(*x_t.shape[-2:])
        together = max(1, POSITIONS // (len(x_t) * crops[0].height * crops[0].width))

        def each() -> Iterator[Tensor]:
            for first in range(0, len(crops), together):
                group = crops[first : first + together]
                parts = torch.cat([crop.of(x_t) for crop in group])
                given = reduce(Conditioning.cat, [self.condition(conditioning, crop) for crop in group])
                outputs = super(TiledDenoiser, self).output(parts, t if t.ndim == 0 else t.repeat(len(group)), given)
                yield from outputs.chunk(len(group))

        predictions = each()
        return tiled(lambda part, crop: next(predictions), x_t, self.tiling)  # noqa: ARG005


class TiledLatentDiffusion(LatentDiffusion):
    """A model that denoises, encodes and decodes in crops of ``tiling`` (in latent positions): for large images.

    It shares everything with ``model``.

    Raises:
        UserError: the network cannot take crops of that size.
    """

    def __init__(self, model: LatentDiffusion, tiling: Tiling) -> None:
        factor = model.network.config.factor
        if tiling.size[0] % factor or tiling.size[1] % factor:
            raise UserError(f"tiles must be multiples of {factor} latent positions, not {tiling.size}")
        vars(self).update(vars(model))
        self.tiling = tiling

    @property
    def denoiser(self) -> TiledDenoiser:
        """The network as an estimate of clean latents, crop by crop."""
        return TiledDenoiser(self.network, self.schedule, self.prediction, tiling=self.tiling)

    def encode(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return normalised latents of images in [-1, 1]."""
        factor, encode = self.autoencoder.factor, super().encode
        (height, width), (down, right) = self.tiling.size, self.tiling.stride
        pixels = replace(self.tiling, size=(height * factor, width * factor), stride=(down * factor, right * factor))
        return tiled(lambda part, _: encode(part), images.to(self.device), pixels, Fraction(1, factor))

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b d h2 w2"], *, clip: bool = True) -> Float[Tensor, "b c h w"]:
        """Return images for normalised latents, clipped to [-1, 1] or as the decoder makes them."""
        raw, autoencoder = self.autoencoder.denormalise(latents), self.autoencoder
        images = tiled(lambda part, _: autoencoder.decode(part).float(), raw, self.tiling, autoencoder.factor)
        return images.clamp(-1, 1) if clip else images


def _starts(length: int, size: int, stride: int) -> list[int]:
    last = max(0, length - size)
    return [*range(0, last, stride), last]


def _distance_to_border(height: int, width: int) -> Float[Tensor, "h w"]:
    """Return min(u, 1 - u, v, 1 - v) for u, v = 0 ... 1 along each axis."""
    return torch.minimum(_distance_to_end(height)[:, None], _distance_to_end(width))


def _distance_to_end(length: int) -> Float[Tensor, " n"]:
    """Return min(u, 1 - u) for u = 0 ... 1; one position has no end."""
    u = torch.arange(length) / (length - 1) if length > 1 else torch.tensor([0.5])
    return torch.minimum(u, 1 - u)


def _scaled(length: int, scale: Fraction | int) -> int:
    scaled = length * scale
    if scaled.denominator != 1:
        raise ValueError(f"{length} positions cannot be scaled by {scale}: take a multiple of {scale.denominator}")
    return int(scaled)


def _scaled_crop(crop: Crop, scale: Fraction | int) -> Crop:
    top, left, height, width = (_scaled(length, scale) for length in crop[:4])
    return Crop(top, left, height, width, (_scaled(crop.whole[0], scale), _scaled(crop.whole[1], scale)))
