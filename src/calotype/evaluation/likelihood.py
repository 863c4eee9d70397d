"""Bits per pixel value: how likely a trained model finds images, with the parts that pixels and latents have in it."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.data.batch import Batch
from calotype.data.pixel_format import PixelFormat
from calotype.diffusion.likelihood import DiscretisedLaplace, DiscretisedNormal, PixelLikelihood, bits_per_dim
from calotype.evaluation.autoencoder_report import Row
from calotype.evaluation.latent_likelihood import LatentLikelihood, NoisyLatents, SampledLatents
from calotype.models.distributions import DiagonalGaussianDistribution
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.utils.errors import UserError

_LABELS = {"vlb": "variational bound", "ode": "probability-flow ODE", "standard_normal": "standard normal latents"}


@torch.no_grad()
def evaluate_likelihood(
    model: LatentDiffusion | TrainedAutoencoder, training: Batch, batches: Iterable[Batch]
) -> dict[str, Any]:
    """Return upper bounds on the bits per value of the images in ``batches``, with standard errors over images.

    ``vlb`` and ``ode`` are those of a diffusion model; ``standard_normal`` is that of an autoencoder with a posterior,
    whose latents are standard normal: what the diffusion model's prior is worth is the difference. The spread of pixels
    around what is decoded is fitted on ``training`` images, of which some hundred are enough.

    Raises:
        UserError: pixels are no integers, there are no images, or latents are points without a model of them.
    """
    first_stage = model if isinstance(model, TrainedAutoencoder) else model.first_stage
    width = level_width(first_stage.pixel_format).to(first_stage.model.latent_shift.device)
    latents = _latents(model, first_stage, training)

    def levels(images: Tensor) -> Tensor:
        """Move images to the device, and values to the nearest level, which they miss by rounding or out of range."""
        images = images.to(width)
        return (-1 + width * ((images + 1) / width).round()).clamp(-1, 1)

    def decode(x: Tensor, batch: Batch) -> Tensor:
        return first_stage.model.decode(latents.decoded(x, batch))

    law = _fit(levels, decode, training, width)
    reconstruction, outside = [], []
    parts: dict[str, list[Tensor]] = {name: [] for name in latents.methods}
    for batch in batches:
        x = levels(batch.images)
        outside.append(((batch.images.to(x) - x).abs() > width).double().mean(dim=(1, 2, 3)).cpu())
        reconstruction.append(law(x, decode(x, batch)).double().cpu())
        for name, found in parts.items():
            found.append(latents.nats(name, x, batch).double().cpu())
    if not outside:
        raise UserError("there are no images to measure")
    dims, left = training.images[0].numel(), torch.cat(reconstruction)
    return {name: _summary(left, torch.cat(found), dims) for name, found in parts.items()} | {
        "n": len(left),
        "dims": dims,
        "levels": (2 / width).round().add(1).int().flatten().unique().tolist(),
        "outside": float(torch.cat(outside).mean()),
        "decoder": {"family": type(law).__name__, "scale": law.scale},
        "protocol": f"{_PROTOCOL} {latents.protocol}",
    }


def likelihood_rows(found: dict[str, Any]) -> list[Row]:
    """Return the numbers of ``evaluate_likelihood`` as rows of a table."""
    return [
        Row(
            f"bits per value, {label}",
            f"{part['value']:.3f} ± {part['standard_error']:.3f}",
            f"reconstruction {part['reconstruction']:.3f}, latents {part['latent']:.3f}; {found['n']} images",
            found["protocol"],
        )
        for name, label in _LABELS.items()
        if (part := found.get(name)) is not None
    ]


def level_width(pixel_format: PixelFormat) -> Float[Tensor, "c 1 1"]:
    """Return how far apart two levels of integer pixels are in [-1, 1], for each channel.

    Raises:
        UserError: pixels are floating-point numbers.
    """
    if pixel_format.dtype == "float32":
        raise UserError("bits per value need pixels of integer levels: images of float32 have none")
    widths = [2 / round(high - low) for low, high in pixel_format.ranges]
    return torch.tensor(widths).expand(pixel_format.channels).view(-1, 1, 1)


def _fit(
    levels: Callable[[Tensor], Tensor], decode: Callable[[Tensor, Batch], Tensor], training: Batch, width: Tensor
) -> PixelLikelihood:
    """Return the distribution and scale that leave the least of the training images."""
    x = levels(training.images)
    mean = decode(x, training)
    fits = [law.fit(x, mean, width) for law in (DiscretisedNormal, DiscretisedLaplace)]
    return min(fits, key=lambda fit: fit[1])[0]


def _latents(
    model: LatentDiffusion | TrainedAutoencoder, first_stage: TrainedAutoencoder, training: Batch
) -> LatentLikelihood:
    with torch.no_grad():
        example = first_stage.model.encode(training.images[:1].to(first_stage.model.latent_shift.device))
    if isinstance(example, DiagonalGaussianDistribution):
        return SampledLatents(model)
    if isinstance(model, TrainedAutoencoder):
        raise UserError("the latents of this autoencoder are points: only a diffusion model of them has a likelihood")
    return NoisyLatents(model, level_width(first_stage.pixel_format))


def _summary(reconstruction: Tensor, latent: Tensor, dims: int) -> dict[str, float]:
    total = -bits_per_dim(reconstruction + latent, dims)
    return {
        "value": float(total.mean()),
        "standard_error": float(total.std() / math.sqrt(len(total))) if len(total) > 1 else math.nan,
        "reconstruction": float(-bits_per_dim(reconstruction, dims).mean()),
        "latent": float(-bits_per_dim(latent, dims).mean()),
    }


_PROTOCOL = (
    "Upper bounds on -log2 P(x) per value (channel of a pixel) of the images at the model's size, rounded to their "
    "integer levels, values out of range taken as the last level; one draw per image, standard error over images. "
    "-log P(x) <= E[-log P(x | z)] + E[log q(z | x) - log p(z)]: the reconstruction and the latent part. P(x | z) is a "
    "normal or a Laplace distribution, integrated over the bin of each level (the bins of the first and the last are "
    "open), around what is decoded from z; the family and one scale are those most likely on training images."
)
