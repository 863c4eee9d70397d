from collections.abc import Callable, Iterator

import jaxtyping
import pytest
import torch
from torch import Tensor

from calotype.diffusion import Denoise, Estimate, NoiseSchedule


@pytest.fixture
def gaussian() -> Callable[[NoiseSchedule, float, float], Denoise]:
    """The exact denoiser of data from N(mean, std^2): E[x_0 | x_t], in float64."""

    def denoiser(schedule: NoiseSchedule, mean: float, std: float) -> Denoise:
        def denoise(x_t: Tensor, t: Tensor) -> Estimate:
            alpha, sigma = schedule.marginal(t, x_t)
            residual = (x_t - alpha * mean) / (alpha**2 * std**2 + sigma**2)
            return Estimate(mean + alpha * std**2 * residual, sigma * residual, alpha, sigma)

        return denoise

    return denoiser


@pytest.fixture
def long_walk() -> Iterator[None]:
    """For walks of hundreds of steps, all alike: shapes, which other tests see checked, are not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def images() -> Tensor:
    return torch.linspace(-2.5, 2.5, 24, dtype=torch.float64).view(2, 3, 2, 2)
