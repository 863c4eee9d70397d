"""Do samples show what was asked for? Retrieval among real images, by features of a network that reads no text."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.evaluation.nearest import centred_directions

CAPTION_PROTOCOL = (
    "For each sample all reference images are ranked by cosine distance of features, centred by the references' mean. "
    "top-k is the share of samples with an image of the caption that was asked for among the k nearest; ties count "
    "against the sample. Chance is the same share for a random ranking."
)
LABEL_PROTOCOL = (
    "Share of samples whose nearest labelled reference image (cosine distance of features, centred by the mean of "
    "those images) has the label that was asked for. Chance is the same share for a reference image picked at random."
)


@dataclass(frozen=True)
class Agreement:
    """A share of samples that agree with what was asked, beside the share that agrees by chance."""

    value: float
    chance: float


@dataclass(frozen=True)
class CaptionAgreement:
    """How well ``n_samples`` samples find their captions among ``n_references`` real images.

    ``top`` maps k to the agreement among the k nearest; ``median_rank`` counts from 1, by chance it is about half of
    ``n_references`` where each caption has one image.
    """

    top: dict[int, Agreement]
    median_rank: float
    n_samples: int
    n_references: int
    protocol: str = CAPTION_PROTOCOL


@dataclass(frozen=True)
class LabelAgreement:
    """The agreement of ``n_samples`` samples with one label (a style, a class) of ``n_references`` real images."""

    agreement: Agreement
    n_samples: int
    n_references: int
    protocol: str = LABEL_PROTOCOL


def caption_agreement(
    samples: Float[Tensor, "m d"],
    sample_captions: Sequence[Hashable],
    references: Float[Tensor, "n d"],
    reference_captions: Sequence[Hashable],
    top: Sequence[int] = (1, 10),
) -> CaptionAgreement:
    """Rank the references of each sample by cosine distance and look where the sample's own caption comes.

    Several references may share a caption: the nearest of them counts. Samples and references whose caption is ``None``
    are left out.

    Raises:
        ValueError: no sample has a caption, or a sample's caption has no reference image.
    """
    samples, asked = _labelled(samples, sample_captions, "sample has a caption")
    references, present = _labelled(references, reference_captions, "reference image has a caption")
    counts, n = Counter(present), len(present)
    if missing := [caption for caption in asked if caption not in counts]:
        raise ValueError(f"no reference image has the caption {missing[0]!r} of a sample")
    number = {caption: index for index, caption in enumerate(counts)}
    own = _numbers(asked, number)[:, None] == _numbers(present, number)[None, :]  # [m, n]
    similarity = _similarity(samples, references)
    best = similarity.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
    ranks = 1 + ((similarity >= best) & ~own).sum(1)
    agreements = {
        k: Agreement(
            value=float((ranks <= k).double().mean()),
            chance=sum(1 - comb(n - counts[caption], k) / comb(n, k) for caption in asked) / len(asked),
        )
        for k in (min(k, n) for k in top)
    }
    return CaptionAgreement(agreements, float(median(ranks.tolist())), len(asked), n)


def label_agreement(
    samples: Float[Tensor, "m d"],
    sample_labels: Sequence[Hashable],
    references: Float[Tensor, "n d"],
    reference_labels: Sequence[Hashable],
) -> LabelAgreement:
    """Compare the label asked of each sample with the label of its nearest labelled reference.

    Samples and references whose label is ``None`` are left out.

    Raises:
        ValueError: no sample, or no reference, has a label.
    """
    samples, asked = _labelled(samples, sample_labels, "sample has a label")
    references, present = _labelled(references, reference_labels, "reference image has a label")
    nearest = _similarity(samples, references).argmax(1).tolist()
    counts = Counter(present)
    agreement = Agreement(
        value=sum(present[index] == label for index, label in zip(nearest, asked, strict=True)) / len(asked),
        chance=sum(counts[label] for label in asked) / (len(asked) * len(present)),
    )
    return LabelAgreement(agreement, len(asked), len(present))


def _labelled(features: Tensor, labels: Sequence[Hashable], what: str) -> tuple[Tensor, list[Hashable]]:
    if len(labels) != len(features):
        raise ValueError(f"{len(labels)} labels for {len(features)} images")
    kept = [index for index, label in enumerate(labels) if label is not None]
    if not kept:
        raise ValueError(f"no {what}")
    return features[kept], [labels[index] for index in kept]


def _similarity(samples: Tensor, references: Tensor) -> Tensor:
    directions, reference_directions = centred_directions(samples, references)
    return directions @ reference_directions.T


def _numbers(labels: Sequence[Hashable], number: dict[Hashable, int]) -> Tensor:
    return torch.tensor([number[label] for label in labels])
