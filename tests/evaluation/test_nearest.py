import pytest
import torch

from calotype.evaluation import memorisation, nearest_features, nearest_images
from calotype.utils.seeds import generator


def images(n: int, *key: int | str) -> torch.Tensor:
    return torch.rand(n, 3, 8, 8, generator=generator("nearest", *key)) * 2 - 1


def test_nearest_features_are_ordered_by_centred_cosine() -> None:
    references = torch.tensor([[11.0, 10.0], [10.0, 11.0], [9.0, 10.0], [10.0, 9.0]])
    found = nearest_features(torch.tensor([[12.0, 10.5]]), references, k=3)
    assert found.indices.tolist() == [[0, 1, 3]]
    cosine = 2 / (4 + 0.25) ** 0.5
    assert found.distances[0, 0].item() == pytest.approx(1 - cosine)


def test_nearest_images_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calotype.evaluation.nearest._ROWS", 4)
    samples, references = images(10, "samples"), images(30, "references")
    samples[3] = references[17]
    samples[4] = references[5] + 1e-3
    distance = (samples[:, None].double() - references[None].double()).square().mean((2, 3, 4)).sqrt()
    expected, order = distance.sort(dim=1)
    found = nearest_images(samples, references, k=4)
    assert torch.equal(found.indices, order[:, :4])
    assert torch.allclose(found.distances.double(), expected[:, :4], atol=1e-6)
    assert found.distances[3, 0] == 0
    assert nearest_images(samples, references[:2], k=4).indices.shape == (10, 2)


def test_order_of_near_copies_is_exact() -> None:
    """Distances below the rounding of the matrix product that finds the candidates."""
    sample = images(1, "copied")
    offsets = torch.tensor([5.0, 2.0, 8.0, 1.0, 6.0, 3.0, 7.0, 4.0]) * 1e-5
    found = nearest_images(sample, sample + offsets.view(-1, 1, 1, 1), k=8)
    assert found.indices.tolist() == [[3, 1, 5, 7, 0, 4, 6, 2]]
    assert torch.allclose(found.distances[0], torch.arange(1, 9) * 1e-5, atol=1e-7)


def test_images_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        nearest_images(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))


def test_memorisation_counts_copies_and_has_a_scale() -> None:
    training, held_out = images(40, "training"), images(20, "held out")
    fresh, copies = images(6, "fresh"), training[[3, 8]] + 0.05
    summary = memorisation(torch.cat([fresh, copies]), held_out, training).summary()
    assert summary["copies"] == pytest.approx(2 / 8)
    assert summary["held_out_copies"] == 0.0
    assert summary["held_out_median_distance"] == pytest.approx(summary["median_distance"], rel=0.1)
    stricter = memorisation(copies, held_out, training, threshold=0.04).summary()
    assert (stricter["copies"], stricter["median_distance"]) == (0.0, pytest.approx(0.05, abs=1e-6))


def test_memorisation_without_held_out_images() -> None:
    training = images(4, "few")
    summary = memorisation(training, training[:0], training).summary()
    assert (summary["copies"], summary["held_out_copies"], summary["n_held_out"]) == (1.0, None, 0)
