"""The evidence lower bound, where the evidence is known: x = W z + b + noise, z and noise normal."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from calotype.models.distributions import DiagonalGaussianDistribution

NOISE = 0.3
LATENTS, PIXELS, IMAGES = 3, 5, 4


@pytest.fixture
def decoder() -> tuple[Tensor, Tensor]:
    """W with columns at right angles, so that the true posterior is diagonal, and b."""
    random = torch.randn(PIXELS, PIXELS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w = torch.linalg.qr(random)[0][:, :LATENTS] * torch.tensor([0.4, 1.0, 2.5], dtype=torch.float64)
    return w, random[0]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(IMAGES, PIXELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1.5


def evidence(decoder: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    w, b = decoder
    covariance = w @ w.T + NOISE**2 * torch.eye(PIXELS, dtype=torch.float64)
    return MultivariateNormal(b, covariance).log_prob(x)


def true_posterior(decoder: tuple[Tensor, Tensor], x: Tensor) -> DiagonalGaussianDistribution:
    w, b = decoder
    precision = 1 + w.square().sum(0) / NOISE**2
    mean = (x - b) @ w / NOISE**2 / precision
    return DiagonalGaussianDistribution(torch.cat([mean, (-precision.log()).expand_as(mean)], dim=1))


def nll(decoder: tuple[Tensor, Tensor], x: Tensor, z: Tensor) -> Tensor:
    """-log p(x | z)."""
    mean = z @ decoder[0].T + decoder[1]
    logvar = torch.full_like(mean, 2 * math.log(NOISE))
    return DiagonalGaussianDistribution(torch.cat([mean, logvar], dim=1)).nll(x)


def elbo(decoder: tuple[Tensor, Tensor], x: Tensor, posterior: DiagonalGaussianDistribution) -> Tensor:
    """-E[-log p(x | z)] - KL: the first is quadratic in z, so its mean over mean +- std of all latents is exact."""
    signs = itertools.product((-1.0, 1.0), repeat=LATENTS)
    corners = [posterior.sample(torch.tensor(sign, dtype=torch.float64).expand(len(x), -1)) for sign in signs]
    return -torch.stack([nll(decoder, x, z) for z in corners]).mean(0) - posterior.kl()


def moved(posterior: DiagonalGaussianDistribution) -> DiagonalGaussianDistribution:
    return DiagonalGaussianDistribution(posterior.parameters + torch.tensor([0.1, -0.1, 0.05, 0.7, -0.4, 0.2]))


def importance_weights(
    decoder: tuple[Tensor, Tensor], x: Tensor, posterior: DiagonalGaussianDistribution, count: int
) -> Tensor:
    """log p(x, z) - log q(z | x) for ``count`` draws of z [count, images]: KL and NLL as densities."""
    posterior = DiagonalGaussianDistribution(posterior.parameters.repeat(count, 1))
    standard = DiagonalGaussianDistribution(torch.zeros_like(posterior.parameters))
    z = posterior.sample(generator=torch.Generator().manual_seed(2))
    return (posterior.nll(z) - standard.nll(z) - nll(decoder, x.repeat(count, 1), z)).view(count, IMAGES)


def test_the_elbo_with_the_true_posterior_is_the_evidence(decoder, x):
    torch.testing.assert_close(elbo(decoder, x, true_posterior(decoder, x)), evidence(decoder, x), rtol=0, atol=1e-8)


def test_with_another_posterior_it_is_less_by_the_divergence_from_the_true_one(decoder, x):
    truth = true_posterior(decoder, x)
    wrong = moved(truth)
    gap = evidence(decoder, x) - elbo(decoder, x, wrong)
    assert (gap > 0.05).all()
    torch.testing.assert_close(gap, wrong.kl(truth), rtol=0, atol=1e-8)


def test_more_importance_samples_tighten_the_bound(decoder, x):
    """IWAE (arXiv:1509.00519): ELBO <= the bound of k samples <= that of 64 k <= log p(x)."""
    log_weights = importance_weights(decoder, x, moved(true_posterior(decoder, x)), 64 * 256)
    bounds = {}
    for k in (1, 8, 64):
        groups = log_weights.view(-1, k, IMAGES).logsumexp(1) - math.log(k)
        bounds[k] = groups.mean(0)
    error = 5 * log_weights.std(0) / math.sqrt(len(log_weights))
    assert ((bounds[1] - elbo(decoder, x, moved(true_posterior(decoder, x)))).abs() < error).all()
    assert (bounds[1] < bounds[8]).all()
    assert (bounds[8] < bounds[64]).all()
    assert (bounds[64] < evidence(decoder, x) + error).all()
    assert (bounds[64] > evidence(decoder, x) - 0.1).all()


def test_with_the_true_posterior_every_weight_is_the_evidence(decoder, x):
    log_weights = importance_weights(decoder, x, true_posterior(decoder, x), 3)
    torch.testing.assert_close(log_weights, evidence(decoder, x).expand(3, -1), rtol=0, atol=1e-8)
