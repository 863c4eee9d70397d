import pytest
import torch

from calotype.losses.codebook_usage import code_frequencies, measure_perplexity


def test_perplexity_counts_codes_in_even_use() -> None:
    perplexity, used = measure_perplexity(torch.tensor([[0, 1], [2, 3]]), 16)
    assert perplexity.item() == pytest.approx(4)
    assert used == 4
    perplexity, used = measure_perplexity(torch.full((5,), 2), 16)
    assert perplexity.item() == pytest.approx(1)
    assert used == 1


def test_shares() -> None:
    shares = code_frequencies(torch.tensor([[0, 3], [3, 3]]), 5)
    assert shares.tolist() == [0.25, 0, 0, 0.75, 0]
