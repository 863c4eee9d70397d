import pytest
import torch

from calotype.diffusion import EDM, Denoiser, Heun, NoiseSource, UniformTimes, solve
from calotype.diffusion.prediction import target

LEVELS = torch.tensor([0.002, 0.1, 1.0, 7.5, 80.0], dtype=torch.float64).view(-1, 1, 1, 1)


def network(x, t):
    """Some function of image and time."""
    return torch.sin(3 * x) + t.view(-1, 1, 1, 1)


def preconditioned(x, s, sigma_data=1.0):
    """D(x; sigma) of Eq. 7, arXiv:2206.00364, with the factors of its Table 1."""
    skip = sigma_data**2 / (s**2 + sigma_data**2)
    out = s * sigma_data / (sigma_data**2 + s**2).sqrt()
    inside = 1 / (sigma_data**2 + s**2).sqrt()
    return skip * x + out * network(inside * x, s.flatten().log() / 4)


def test_its_preconditioned_denoiser_is_the_prediction_v_up_to_sign():
    noisy = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * LEVELS
    alpha, _ = EDM().marginal(LEVELS.flatten(), noisy)
    single = Denoiser(lambda x, t: -network(x, t.double()), EDM(), "v")
    ours = single(alpha * noisy, LEVELS.flatten()).x0
    torch.testing.assert_close(ours, preconditioned(noisy, LEVELS), rtol=0, atol=1e-6)  # times are float32


def test_its_loss_is_the_plain_square_of_v():
    """lambda(s) |D - x_0|^2 with lambda = (s^2 + 1) / s^2, for every output of the network."""
    x0, noise = torch.randn(2, 5, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = x0 + LEVELS * noise
    alpha, sigma = EDM().marginal(LEVELS.flatten(), x0)
    published = (LEVELS**2 + 1) / LEVELS**2 * (preconditioned(noisy, LEVELS) - x0) ** 2
    v = target("v", x0, noise, alpha, sigma)
    ours = (-network(alpha * noisy, LEVELS.flatten().log() / 4) - v) ** 2
    torch.testing.assert_close(ours, published, rtol=1e-9, atol=1e-9)


def test_images_of_variance_one_keep_it_at_every_level():
    alpha, sigma = EDM().alpha(LEVELS), EDM().sigma(LEVELS)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=0, atol=1e-15)
    torch.testing.assert_close(sigma / alpha, LEVELS, rtol=1e-15, atol=0)


def test_uniform_training_gives_equal_weight_to_every_log_snr():
    times = UniformTimes().sample(20_000, torch.Generator().manual_seed(0), EDM())
    assert times.min() >= 0.002
    assert times.max() <= 80
    u = (times.log() - torch.tensor(0.002).log()) / (torch.tensor(80 / 0.002).log())
    assert u.mean().item() == pytest.approx(0.5, abs=5 * (1 / 12 / 20_000) ** 0.5)


def test_eighteen_steps_of_heun_are_as_exact_as_edms_sampler(gaussian):
    """Algorithm 1 of arXiv:2206.00364 (no churn) in its own coordinates, on data whose denoiser is known."""
    x, grid, mean, std = NoiseSource([0]).initial((1, 4, 4), torch.float64), EDM().grid(18), 0.7, 0.25

    def slope(y, s):
        return (y - (mean * s**2 + y * std**2) / (s**2 + std**2)) / s

    y = x / grid.alpha[0]
    exact = mean + std * (y - mean) / (grid.t[0] ** 2 + std**2).sqrt()
    for here, there in zip(grid.t[:-1], grid.t[1:], strict=True):
        end = y + (there - here) * slope(y, here)
        y = end if there == 0 else y + (there - here) * (slope(y, here) + slope(end, there)) / 2
    *_, last = solve(gaussian(EDM(), mean, std), x, grid, Heun())
    assert (last.x - exact).abs().max() < 1.1 * (y - exact).abs().max()
