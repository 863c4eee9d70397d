"""The numbers of a set of samples, each with its protocol and a scale made of real images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.evaluation.agreement import Agreement, caption_agreement, label_agreement
from calotype.evaluation.frechet import (
    FRECHET_NAME,
    FRECHET_PROTOCOL,
    KERNEL_NAME,
    frechet_distance,
    kernel_distance,
)
from calotype.utils.errors import UserError
from calotype.utils.seeds import generator

LEAST_IMAGES = 3


@dataclass(frozen=True)
class FeatureSet:
    """Features of images with the fields of their records: one value per image, ``None`` where a record has none."""

    features: Float[Tensor, "n d"]
    fields: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    def values(self, name: str) -> list[Any]:
        """Return the field ``name``, ``None`` for every image where there is no such field."""
        return self.fields.get(name, [None] * len(self))


def generation_metrics(
    samples: FeatureSet,
    held_out: FeatureSet,
    training: FeatureSet,
    *,
    caption: str = "caption",
    labels: Sequence[str] = ("style", "class"),
) -> dict[str, Any]:
    """Return how near ``samples`` are to the training images, and to what was asked, as plain data.

    ``kid`` and ``fd`` compare samples with the training images, ``kid_held_out`` with the images kept from training.
    ``real_baseline`` gives them a scale, distances that no honest sampler can be expected to undercut: ``kid`` and
    ``fd`` of as many real training images as there are samples (half of them at most) against the other training
    images, and ``kid_held_out`` of the held-out images against all training images. ``caption_agreement`` and
    ``<label>_agreement`` look samples up among all real images, training and held-out; they are there only if samples
    and real images have the field. What needs held-out images is left out where there are fewer than 3.

    Raises:
        UserError: fewer than 3 samples or fewer than 6 training images.
    """
    if len(samples) < LEAST_IMAGES or len(training) < 2 * LEAST_IMAGES:
        raise UserError(
            f"measuring samples needs at least {LEAST_IMAGES} samples and {2 * LEAST_IMAGES} training images, "
            f"there are {len(samples)} and {len(training)}"
        )
    metrics: dict[str, Any] = {
        "kid": _kernel(samples.features, training.features, "the training images"),
        "fd": _frechet(samples.features, training.features, "the training images"),
        "real_baseline": _real_baseline(len(samples), training.features),
    }
    if len(held_out) >= LEAST_IMAGES:
        metrics["kid_held_out"] = _kernel(samples.features, held_out.features, "the held-out images")
        metrics["real_baseline"]["kid_held_out"] = _kernel(held_out.features, training.features, "the training images")
    return metrics | _agreements(samples, held_out, training, caption, labels)


def _real_baseline(n_samples: int, training: Tensor) -> dict[str, Any]:
    order = torch.randperm(len(training), generator=generator("evaluation", "real baseline"))
    n = max(LEAST_IMAGES, min(n_samples, len(training) // 2))
    drawn, others = training[order[:n]], training[order[n:]]
    return {
        "kid": _kernel(drawn, others, "the other training images"),
        "fd": _frechet(drawn, others, "the other training images"),
    }


def _kernel(a: Tensor, b: Tensor, reference: str) -> dict[str, Any]:
    distance = kernel_distance(a, b)
    return {
        "name": KERNEL_NAME,
        "value": distance.value,
        "standard_error": distance.standard_error,
        "n": len(a),
        "n_reference": len(b),
        "protocol": f"{len(a)} images against {reference} ({len(b)}). {distance.protocol}",
    }


def _frechet(a: Tensor, b: Tensor, reference: str) -> dict[str, Any]:
    return {
        "name": FRECHET_NAME,
        "value": frechet_distance(a, b),
        "n": len(a),
        "n_reference": len(b),
        "protocol": f"{len(a)} images against {reference} ({len(b)}). {FRECHET_PROTOCOL}",
    }


def _agreements(
    samples: FeatureSet, held_out: FeatureSet, training: FeatureSet, caption: str, labels: Sequence[str]
) -> dict[str, Any]:
    real = torch.cat([training.features, held_out.features])
    found: dict[str, Any] = {}
    for name in (caption, *labels):
        asked, present = samples.values(name), training.values(name) + held_out.values(name)
        if all(value is None for value in asked) or all(value is None for value in present):
            continue
        if name == caption:
            by_caption = caption_agreement(samples.features, asked, real, present)
            found["caption_agreement"] = {
                **{f"top_{k}": _plain(agreement) for k, agreement in by_caption.top.items()},
                "median_rank": by_caption.median_rank,
                "n": by_caption.n_samples,
                "n_reference": by_caption.n_references,
                "protocol": by_caption.protocol,
            }
        else:
            by_label = label_agreement(samples.features, asked, real, present)
            found[f"{name}_agreement"] = _plain(by_label.agreement) | {
                "n": by_label.n_samples,
                "n_reference": by_label.n_references,
                "protocol": by_label.protocol,
            }
    return found


def _plain(agreement: Agreement) -> dict[str, float]:
    return {"value": agreement.value, "chance": agreement.chance}
