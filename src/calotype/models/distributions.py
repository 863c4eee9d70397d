"""What an encoder returns: a diagonal Gaussian, or a point mass, over tensors of any shape."""

import math
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor


def normal_kl(
    mean1: Tensor | float, logvar1: Tensor | float, mean2: Tensor | float, logvar2: Tensor | float
) -> Float[Tensor, "..."]:
    """KL divergence in nats of N(mean1, exp(logvar1)) from N(mean2, exp(logvar2)), element by element.

    ``1/2 [(mean1 - mean2)^2 / exp(logvar2) + exp(d) - 1 - d]`` with ``d = logvar1 - logvar2``. Numbers and tensors
    broadcast; at least one argument must be a tensor (``ValueError`` otherwise).
    """
    like = next((value for value in (mean1, logvar1, mean2, logvar2) if isinstance(value, Tensor)), None)
    if like is None:
        raise ValueError("normal_kl needs at least one tensor among its arguments")
    mean1, logvar1, mean2, logvar2 = (
        value if isinstance(value, Tensor) else like.new_tensor(value) for value in (mean1, logvar1, mean2, logvar2)
    )
    difference = logvar1 - logvar2
    return 0.5 * ((mean1 - mean2).square() * torch.exp(-logvar2) + torch.expm1(difference) - difference)


class DiagonalGaussianDistribution:
    """One independent Gaussian per element.

    ``parameters`` (b, 2c, ...) are the mean and the log-variance joined along dimension 1; the log-variance is clamped
    to [-30, 20]. A ``deterministic`` distribution is the point mass at the mean: ``std`` and ``var`` are zero, and
    ``kl`` and ``nll`` are zero by convention, because such a posterior is not regularised (``logvar`` stays what the
    parameters say).
    """

    def __init__(self, parameters: Float[Tensor, "b c2 ..."], deterministic: bool = False) -> None:
        if parameters.shape[1] % 2:
            raise ValueError(f"parameters need an even number of channels (mean, logvar), not {parameters.shape[1]}")
        self.parameters = parameters
        self.deterministic = deterministic
        self.mean, logvar = parameters.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)
        self.std = torch.zeros_like(self.mean) if deterministic else torch.exp(0.5 * self.logvar)
        self.var = torch.zeros_like(self.mean) if deterministic else torch.exp(self.logvar)

    def sample(
        self, noise: Float[Tensor, "b c ..."] | None = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c ..."]:
        """Return ``mean + std * noise``.

        Without ``noise`` it is drawn: on the device of ``generator`` where one is given, so that a CPU generator gives
        the same sample on every device.
        """
        if noise is None:
            device = generator.device if generator is not None else self.mean.device
            noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean)

    def mode(self) -> Float[Tensor, "b c ..."]:
        """Return the most likely value, the mean."""
        return self.mean

    def kl(self, other: "DiagonalGaussianDistribution | None" = None) -> Float[Tensor, " b"]:
        """Return KL(self, other) in nats per example, summed over all other dimensions, in at least float32.

        Without ``other`` it is taken from the standard normal. It is infinite where only ``other`` is deterministic.
        """
        mean, logvar = _at_least_float32(self.mean), _at_least_float32(self.logvar)
        if self.deterministic:
            return mean.new_zeros(len(mean))
        if other is None:
            return _sum_per_example(normal_kl(mean, logvar, 0.0, 0.0))
        if other.deterministic:
            return mean.new_full((len(mean),), math.inf)
        return _sum_per_example(normal_kl(mean, logvar, _at_least_float32(other.mean), _at_least_float32(other.logvar)))

    def nll(self, sample: Float[Tensor, "b c ..."], dims: tuple[int, ...] | None = None) -> Float[Tensor, "b ..."]:
        """Return the negative log-likelihood of ``sample`` in nats, in at least float32.

        ``1/2 sum [log 2 pi + logvar + (sample - mean)^2 / var]`` over ``dims`` (all but the first unless given).
        """
        mean, logvar = _at_least_float32(self.mean), _at_least_float32(self.logvar)
        squares = (_at_least_float32(sample) - mean).square() * torch.exp(-logvar)
        elements = 0.5 * (math.log(2 * math.pi) + logvar + squares)
        total = _sum_per_example(elements) if dims is None else elements.sum(dim=dims)
        return torch.zeros_like(total) if self.deterministic else total


class DiracDistribution:
    """A point mass at ``value``, with the interface of ``DiagonalGaussianDistribution``; it is not regularised."""

    deterministic = True

    def __init__(self, value: Float[Tensor, "b c ..."]) -> None:
        self.value = self.mean = value
        self.logvar = torch.full_like(value, -math.inf)
        self.std = self.var = torch.zeros_like(value)

    def sample(
        self, noise: Float[Tensor, "b c ..."] | None = None, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c ..."]:
        """Return ``value``; ``noise`` and ``generator`` do not matter."""
        del noise, generator
        return self.value

    def mode(self) -> Float[Tensor, "b c ..."]:
        """Return ``value``."""
        return self.value

    def kl(self, other: "Posterior | None" = None) -> Float[Tensor, " b"]:
        """Return zero per example: a point mass is not regularised."""
        del other
        return _at_least_float32(self.value).new_zeros(len(self.value))

    def nll(self, sample: Float[Tensor, "b c ..."], dims: tuple[int, ...] | None = None) -> Float[Tensor, "b ..."]:
        """Return zeros of the shape that a Gaussian's ``nll`` has."""
        zeros = torch.zeros_like(_at_least_float32(sample))
        return _sum_per_example(zeros) if dims is None else zeros.sum(dim=dims)


Posterior: TypeAlias = DiagonalGaussianDistribution | DiracDistribution


def _sum_per_example(values: Tensor) -> Tensor:
    return values.flatten(1).sum(dim=1)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
