import torch
from torch import Tensor

from calotype.training.k_means import cluster_sums, k_means

CENTRES = torch.tensor([[3.0, 3.0], [-3.0, 3.0], [3.0, -3.0], [-3.0, -3.0]], dtype=torch.float64)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points() -> Tensor:
    """16 points around each centre, mixed."""
    around = CENTRES.repeat_interleave(16, 0) + 0.1 * torch.randn(64, 2, generator=chance(), dtype=torch.float64)
    return around[torch.randperm(64, generator=chance())]


def error(means: Tensor, values: Tensor) -> float:
    return torch.cdist(values, means).amin(dim=1).square().sum().item()


def test_means_are_those_of_the_points_nearest_to_them() -> None:
    values = torch.rand(300, 3, generator=chance(), dtype=torch.float64)
    means = k_means(values, 8, generator=chance(), steps=200)
    nearest = torch.cdist(values, means).argmin(dim=1)
    for number, mean in enumerate(means):
        torch.testing.assert_close(values[nearest == number].mean(0), mean)


def test_every_round_comes_nearer() -> None:
    values = torch.rand(300, 3, generator=chance(), dtype=torch.float64)
    errors = [error(k_means(values, 8, generator=chance(), steps=steps), values) for steps in range(6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[5] < 0.8 * errors[0]


def test_clusters_are_found() -> None:
    found = min((k_means(points(), 4, generator=chance(seed)) for seed in range(5)), key=lambda m: error(m, points()))
    order = torch.cdist(CENTRES, found).argmin(dim=1)
    torch.testing.assert_close(found[order], CENTRES, atol=0.1, rtol=0)


def test_fewer_points_than_clusters_are_their_own_means() -> None:
    values = torch.arange(6.0).view(3, 2)
    means = k_means(values, 5, generator=chance())
    assert sorted(means.tolist()) == values.tolist()


def test_it_is_a_function_of_points_and_generator() -> None:
    first, again, other = (k_means(points(), 7, generator=chance(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_sums_of_clusters() -> None:
    sums, counts = cluster_sums(torch.arange(8.0).view(4, 2), torch.tensor([2, 0, 2, 2]), 4)
    assert sums.tolist() == [[2, 3], [0, 0], [10, 13], [0, 0]]
    assert counts.tolist() == [1, 0, 3, 0]
