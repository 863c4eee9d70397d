"""Distances between two sets of features: Frechet and kernel.

They are named after the network that makes the features, ``FD-EffLite0`` and ``KID-EffLite0``: FID is this distance on
Inception features alone, and numbers of one network say nothing about another's.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.utils.errors import UserError

FRECHET_NAME = "FD-EffLite0"
KERNEL_NAME = "KID-EffLite0"
FRECHET_PROTOCOL = (
    "Frechet distance of two Gaussians with the sets' means and unbiased covariances, in float64. "
    "It is biased upwards by about 1/n: compare it only between sets of equal size."
)
KERNEL_PROTOCOL = (
    "Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 over all pairs of images, no subsets, "
    "in float64, not multiplied; standard error by the two-sample jackknife over images."
)
PAIRED_KERNEL_PROTOCOL = (
    "Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 over all pairs of images but each "
    "original with its own reconstruction, no subsets, in float64, not multiplied; standard error by the jackknife "
    "over images."
)
_ROWS = 1024


@dataclass(frozen=True)
class KernelDistance:
    """An unbiased kernel distance (it may be slightly negative) with its standard error and how it was measured."""

    value: float
    standard_error: float
    protocol: str = KERNEL_PROTOCOL


def frechet_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Return the Frechet distance between the Gaussians fitted to two sets of features (Eq. 6, arXiv:1706.08500).

    ``|mean_a - mean_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a^1/2 S_b S_a^1/2)^1/2)``. With any roots ``S = R^T R`` the last
    trace is the sum of the singular values of ``R_a R_b^T``, so no covariance is formed, nor inverted, and fewer images
    than dimensions are no trouble.

    Raises:
        UserError: a set has fewer than 2 images or features that are not finite.
    """
    a, b = _checked(a, 2), _checked(b, 2)
    root_a, root_b = _covariance_root(a), _covariance_root(b)
    spread = root_a.square().sum() + root_b.square().sum() - 2 * torch.linalg.svdvals(root_a @ root_b.T).sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + spread.clamp(min=0))


def kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> KernelDistance:
    """Return the kernel distance (KID on these features) between two sets of features (Sec. 4, arXiv:1801.01401).

    The estimate is the U-statistic over all pairs, whose expectation is 0 for sets of one distribution at every size;
    its standard error is the two-sample jackknife (leave one image out). Cost grows with the square of the sets' size,
    memory only linearly.

    Raises:
        UserError: a set has fewer than 3 images or features that are not finite.
    """
    a, b = _checked(a, 3), _checked(b, 3)
    n, m = len(a), len(b)
    within_a, within_b = _kernel_sums(a, a) - _kernel_diagonal(a), _kernel_sums(b, b) - _kernel_diagonal(b)
    between_a, between_b = _kernel_sums(a, b), _kernel_sums(b, a)
    total_a, total_b, total = within_a.sum(), within_b.sum(), between_a.sum()
    value = total_a / (n * (n - 1)) + total_b / (m * (m - 1)) - 2 * total / (n * m)
    # Only the terms that change when image i of one set is left out; constants do not alter a variance.
    without_a = (total_a - 2 * within_a) / ((n - 1) * (n - 2)) - 2 * (total - between_a) / ((n - 1) * m)
    without_b = (total_b - 2 * within_b) / ((m - 1) * (m - 2)) - 2 * (total - between_b) / (n * (m - 1))
    variance = (n - 1) * without_a.var(correction=0) + (m - 1) * without_b.var(correction=0)
    return KernelDistance(float(value), math.sqrt(float(variance)))


def paired_kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> KernelDistance:
    """Return the kernel distance between features of images and of their own reconstructions, row by row.

    The U-statistic of ``k(a_i, a_j) + k(b_i, b_j) - k(a_i, b_j) - k(a_j, b_i)`` over i != j (Gretton et al., JMLR 13,
    2012, Lemma 6, Eq. 4). ``kernel_distance`` would take such pairs for independent and their likeness for nearness:
    its expectation is below zero where reconstructions merely resemble their originals. Equal sets are 0 apart.

    Raises:
        UserError: fewer than 3 images or features that are not finite.
    """
    a, b = _checked(a, 3), _checked(b, 3)
    n = len(a)
    within = _kernel_sums(a, a) - _kernel_diagonal(a) + _kernel_sums(b, b) - _kernel_diagonal(b)
    rows = within - _kernel_sums(a, b) - _kernel_sums(b, a) + 2 * _kernel_diagonal(a, b)
    total = rows.sum()
    without = (total - 2 * rows) / ((n - 1) * (n - 2))
    return KernelDistance(
        float(total / (n * (n - 1))),
        math.sqrt(float((n - 1) * without.var(correction=0))),
        PAIRED_KERNEL_PROTOCOL,
    )


def _checked(features: Tensor, least: int) -> Tensor:
    if len(features) < least:
        raise UserError(f"a distance between sets needs at least {least} images in each, got {len(features)}")
    if not features.isfinite().all():
        raise UserError("features are not finite: the images hold NaN or infinite values")
    return features.detach().cpu().double()


def _covariance_root(features: Tensor) -> Tensor:
    centred = (features - features.mean(0)) / math.sqrt(len(features) - 1)
    return torch.linalg.qr(centred, mode="r").R  # [min(n, d), d]


def _kernel_sums(a: Tensor, b: Tensor) -> Tensor:
    """For each row of ``a`` the sum of its kernel with all rows of ``b``."""
    return torch.cat([(rows @ b.T / a.shape[1] + 1).pow(3).sum(1) for rows in a.split(_ROWS)])


def _kernel_diagonal(a: Tensor, b: Tensor | None = None) -> Tensor:
    """For each row of ``a`` its kernel with the same row of ``b`` (of ``a`` unless given)."""
    return ((a * (a if b is None else b)).sum(1) / a.shape[1] + 1).pow(3)
