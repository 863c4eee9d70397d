import pytest
import torch

from calotype.encoders import Search, search
from calotype.utils.seeds import generator

VECTORS = torch.randn(500, 16, generator=generator("search"))


def test_the_nearest_by_angle_from_the_mean() -> None:
    queries = torch.randn(7, 16, generator=generator("queries"))
    mean = VECTORS.mean(0)
    cosine = torch.nn.functional.cosine_similarity((queries - mean)[:, None], (VECTORS - mean)[None], dim=2)
    expected = cosine.sort(dim=1, descending=True).indices[:, :5].tolist()
    assert Search(VECTORS).nearest(queries, 5) == expected
    assert Search(VECTORS).nearest(VECTORS[3:4], 1) == [[3]]
    plain = torch.nn.functional.cosine_similarity(queries[:, None], VECTORS[None], dim=2).argmax(1)
    assert Search(VECTORS, centred=False).nearest(queries, 1) == [[int(i)] for i in plain]


def test_barred_vectors_make_room_for_the_next() -> None:
    found = Search(VECTORS).nearest(VECTORS[:2], 4)
    barred = Search(VECTORS).nearest(VECTORS[:2], 3, [[0, found[0][1]], []])
    assert barred == [found[0][2:4] + barred[0][2:], found[1][:3]]
    assert len(barred[0]) == 3
    assert Search(VECTORS[:3]).nearest(VECTORS[:1], 5, [[0]])[0] in ([1, 2], [2, 1]), "there are no more"


def test_large_sets_are_searched_in_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Search(VECTORS).nearest(VECTORS[:50], 5)
    monkeypatch.setattr(search, "LARGE", 100)
    graph = Search(VECTORS)
    assert graph._graph is not None
    found = graph.nearest(VECTORS[:50], 5)
    shared = [len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)]
    assert sum(shared) >= 0.95 * 50 * 5
    assert [row[0] for row in found] == list(range(50))
    assert graph.nearest(VECTORS[:1], 2, [[0]])[0][0] == exact[0][1]
