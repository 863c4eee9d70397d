"""How much of a codebook is used."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def code_frequencies(indices: Int[Tensor, "..."], num_codes: int) -> Float[Tensor, " n"]:
    """Return the share of each code among ``indices``, integers in [0, num_codes) in any shape."""
    return torch.bincount(indices.flatten(), minlength=num_codes).float() / indices.numel()


def perplexity(frequencies: Float[Tensor, " n"]) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Return how evenly a codebook is used, exp(entropy) in [1, n], and how many of its codes occur."""
    entropy = -(frequencies * torch.log(frequencies + 1e-10)).sum()
    return entropy.exp(), (frequencies > 0).sum()


def measure_perplexity(indices: Int[Tensor, "..."], num_codes: int) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Return the ``perplexity`` of the ``code_frequencies`` of ``indices``."""
    return perplexity(code_frequencies(indices, num_codes))
