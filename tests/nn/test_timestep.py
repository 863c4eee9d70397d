import math

import pytest
import torch

from calotype.nn.timestep import timestep_embedding


def test_values() -> None:
    t = torch.tensor([0.0, 0.25, 1.0, 999.0])
    embedding = timestep_embedding(t, 4, max_period=100.0)
    expected = [[math.cos(x), math.cos(x / 10), math.sin(x), math.sin(x / 10)] for x in t.tolist()]
    torch.testing.assert_close(embedding, torch.tensor(expected), atol=1e-4, rtol=0)


def test_the_product_of_two_embeddings_depends_on_their_distance_alone() -> None:
    t = torch.tensor([3.0, 10.5, 100.0])
    first, second = timestep_embedding(t, 64), timestep_embedding(t + 2.5, 64)
    products = (first * second).sum(dim=1)
    torch.testing.assert_close(products, products[:1].expand(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(first.square().sum(dim=1), torch.full((3,), 32.0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_is_float32_with_a_column_of_zeros_where_the_width_is_odd(dtype: torch.dtype) -> None:
    t = torch.tensor([1.0, 500.0], dtype=dtype)
    embedding = timestep_embedding(t, 7)
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding[:, :6], timestep_embedding(t.float(), 6))
    assert not embedding[:, 6].any()
