"""Weights of multistep methods."""

import torch
from jaxtyping import Float64
from torch import Tensor


def quadrature_weights(nodes: Float64[Tensor, " n"], moments: Float64[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Return the weights of values at ``nodes`` that integrate the polynomial through them.

    ``moments`` are the integrals of r^k, k = 0 .. n - 1, with any kernel; the weights w solve sum_j w_j r_j^k =
    moments_k.
    """
    powers = nodes ** torch.arange(len(nodes), device=nodes.device)[:, None]
    return torch.linalg.solve(powers, moments)
