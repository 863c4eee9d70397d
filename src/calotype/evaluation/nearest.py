"""The nearest real image of each sample, and whether samples are copies of training images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

MEMORISATION_PROTOCOL = (
    "Root mean square difference of pixels in [-1, 1] between each image and its nearest training image, same size, no "
    "alignment. A sample under the threshold is called a copy; the held-out images, which the model has not seen, show "
    "how often that happens to real images of this kind."
)
_ROWS = 256


@dataclass(frozen=True)
class Nearest:
    """The ``k`` nearest references of each sample, nearest first: their positions and distances."""

    indices: Int[Tensor, "m k"]
    distances: Float[Tensor, "m k"]


@dataclass(frozen=True)
class Memorisation:
    """Distances to the nearest training image (RMSE in [-1, 1]) of samples and, for scale, of held-out real images."""

    threshold: float
    samples: Float[Tensor, " m"]
    held_out: Float[Tensor, " n"]
    protocol: str = MEMORISATION_PROTOCOL

    def summary(self) -> dict[str, float | int | str | None]:
        """Return shares of copies and median distances as plain data, ``None`` where there are no held-out images."""
        held_out = self.held_out if len(self.held_out) else None
        return {
            "copies": _share_below(self.samples, self.threshold),
            "held_out_copies": None if held_out is None else _share_below(held_out, self.threshold),
            "median_distance": float(self.samples.quantile(0.5)),
            "held_out_median_distance": None if held_out is None else float(held_out.quantile(0.5)),
            "threshold": self.threshold,
            "n_samples": len(self.samples),
            "n_held_out": len(self.held_out),
            "protocol": self.protocol,
        }


def nearest_features(samples: Float[Tensor, "m d"], references: Float[Tensor, "n d"], k: int = 1) -> Nearest:
    """Return the ``k`` references nearest to each sample by cosine distance (0 to 2) of centred features."""
    directions, reference_directions = centred_directions(samples, references)
    distances, indices = (1 - directions @ reference_directions.T).sort(dim=1, stable=True)
    return Nearest(indices[:, :k], distances[:, :k])


def nearest_images(samples: Float[Tensor, "m c h w"], references: Float[Tensor, "n _ _ _"], k: int = 1) -> Nearest:
    """Return the ``k`` reference images nearest to each sample by root mean square difference of pixels in [-1, 1].

    Raises:
        ValueError: samples and references differ in size or channels.
    """
    if samples.shape[1:] != references.shape[1:]:
        raise ValueError(f"images of {tuple(samples.shape[1:])} cannot be compared with {tuple(references.shape[1:])}")
    samples, references = samples.detach().cpu().float(), references.detach().cpu().float()
    flat = references.flatten(1)
    norms = flat.square().sum(1)
    parts = []
    for rows in samples.flatten(1).split(_ROWS):
        order = (norms - 2 * rows @ flat.T).topk(min(k, len(flat)), dim=1, largest=False).indices
        exact = torch.stack([(rows - flat[column]).square().mean(1).sqrt() for column in order.T], dim=1)
        distances, rank = exact.sort(dim=1, stable=True)
        parts.append((order.gather(1, rank), distances))
    return Nearest(torch.cat([indices for indices, _ in parts]), torch.cat([distances for _, distances in parts]))


def memorisation(
    samples: Float[Tensor, "m c h w"],
    held_out: Float[Tensor, "n c h w"],
    training: Float[Tensor, "p c h w"],
    threshold: float = 0.1,
) -> Memorisation:
    """Measure how near samples and held-out images come to the training images.

    The default threshold, 0.1 of a range of 2, is a PSNR of 26 dB: what a small autoencoder leaves of a training image.
    """
    return Memorisation(
        threshold=threshold,
        samples=nearest_images(samples, training).distances[:, 0],
        held_out=nearest_images(held_out, training).distances[:, 0] if len(held_out) else torch.empty(0),
    )


def centred_directions(
    samples: Float[Tensor, "m d"], references: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, "m d"], Float[Tensor, "n d"]]:
    """Return both sets of features in float64 as unit vectors from the references' mean.

    Raises:
        ValueError: there are no references, or features are not finite.
    """
    if not len(references):
        raise ValueError("there are no reference images to compare with")
    if not (samples.isfinite().all() and references.isfinite().all()):
        raise ValueError("features are not finite: the images hold NaN or infinite values")
    samples, references = samples.detach().cpu().double(), references.detach().cpu().double()
    mean = references.mean(0)
    return F.normalize(samples - mean, dim=1), F.normalize(references - mean, dim=1)


def _share_below(distances: Tensor, threshold: float) -> float:
    return float((distances < threshold).double().mean())
