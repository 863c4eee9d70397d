"""The divergence of a vector field: exactly, or by random probes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.utils.seeds import generator

Field = Callable[[Tensor], Tensor]
Divergence = Callable[[Field, Tensor], tuple[Tensor, Tensor]]
"""(field, z) -> (field(z), divergence of the field at each row of z)."""


def exact_divergence(field: Field, z: Float[Tensor, "b ..."]) -> tuple[Float[Tensor, "b ..."], Float[Tensor, " b"]]:
    """Return ``field(z)`` and the trace of its Jacobian, by one backward pass for each number of a row.

    Raises:
        ValueError: ``field`` computes without gradients.
    """
    value, z = _with_graph(field, z)
    trace = z.new_zeros(len(z))
    for i in range(z[0].numel()):
        unit = torch.zeros_like(value).flatten(1)
        unit[:, i] = 1  # in every row: they do not see one another
        trace += _gradient(value, z, unit.view_as(value)).flatten(1)[:, i]
    return value.detach(), trace


@dataclass(frozen=True)
class Hutchinson:
    """An unbiased estimate: the mean of v . J v over ``probes`` vectors v of random signs (Eq. 7, arXiv:1810.01367).

    The probes of row i depend on ``seeds[i]`` alone and are the same at every call, so that a solver sees one field.
    """

    seeds: Sequence[int]
    probes: int = 1

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise ValueError(f"probes must be at least 1, not {self.probes}")

    def __call__(self, field: Field, z: Float[Tensor, "b ..."]) -> tuple[Float[Tensor, "b ..."], Float[Tensor, " b"]]:
        """Return ``field(z)`` and the estimate.

        Raises:
            ValueError: ``field`` computes without gradients, or there is not one seed per row.
        """
        if len(self.seeds) != len(z):
            raise ValueError(f"{len(self.seeds)} seeds for {len(z)} rows; they must be equal")
        streams = [generator("hutchinson", seed) for seed in self.seeds]
        value, z = _with_graph(field, z)
        trace = z.new_zeros(len(z))
        for _ in range(self.probes):
            signs = [torch.randint(2, z.shape[1:], generator=stream, device="cpu") * 2 - 1 for stream in streams]
            v = torch.stack(signs).to(z)
            trace += (_gradient(value, z, v) * v).flatten(1).sum(1)
        return value.detach(), trace / self.probes


def _with_graph(field: Field, z: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        value = field(z)
    if not value.requires_grad:
        raise ValueError("the divergence needs gradients with respect to x_t: denoise must not run under no_grad")
    return value, z


def _gradient(value: Tensor, z: Tensor, v: Tensor) -> Tensor:
    return torch.autograd.grad(value, z, v, retain_graph=True, materialize_grads=True)[0]
