"""k-means: the means of a number of clusters of points."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def k_means(
    points: Float[Tensor, "p c"], clusters: int, *, generator: torch.Generator, steps: int = 10
) -> Float[Tensor, "n c"]:
    """Return cluster means after ``steps`` rounds of Lloyd's algorithm, which begins at random points.

    There are ``clusters`` of them, or as many as there are points where those are fewer. A mean that no point is
    nearest to stays where it is.
    """
    order = torch.randperm(len(points), generator=generator)[:clusters]
    means = points[order.to(points.device)]
    for _ in range(steps):
        nearest = torch.cat([torch.cdist(part, means).argmin(dim=1) for part in points.split(2**22 // len(means) + 1)])
        sums, counts = cluster_sums(points, nearest, len(means))
        means = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), means)
    return means


def cluster_sums(
    points: Float[Tensor, "p c"], cluster: Int[Tensor, " p"], clusters: int
) -> tuple[Float[Tensor, "n c"], Float[Tensor, " n"]]:
    """Return the sum of the points of each cluster, and how many they are."""
    sums = points.new_zeros(clusters, points.shape[1]).index_add_(0, cluster, points)
    return sums, torch.bincount(cluster, minlength=clusters).to(points)
