import pytest
import torch

from calotype.diffusion import CFG, Conditioning, Denoiser, Linear, dynamic_threshold
from calotype.utils.config import from_dict, to_dict

X = torch.linspace(-2, 2, 24, dtype=torch.float64).view(2, 3, 2, 2)
T = torch.tensor(300.0, dtype=torch.float64)
COND = Conditioning(vector=torch.tensor([[1.0], [2.0]], dtype=torch.float64))
NULL = Conditioning(vector=torch.zeros(2, 1, dtype=torch.float64))


class Counting:
    """A network that is nonlinear in its condition and counts the rows it is given."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, x, t, *, vector):
        self.calls.append(len(x))
        return torch.tanh(x * (1 + vector[:, :, None, None])) + t.to(x)[:, None, None, None] / 1000


def guided(scale: float, t: torch.Tensor = T):
    network = Counting()
    return CFG(scale)(Denoiser(network, Linear(), "eps"), COND, NULL)(X, t), network


def test_scale_one_is_the_condition_and_never_evaluates_the_null():
    got, network = guided(1.0)
    expected = Denoiser(Counting(), Linear(), "eps")(X, T, COND)
    assert torch.equal(got.x0, expected.x0)
    assert torch.equal(got.eps, expected.eps)
    assert network.calls == [2]


def test_scale_zero_is_the_null():
    got, network = guided(0.0)
    expected = Denoiser(Counting(), Linear(), "eps")(X, T, NULL)
    torch.testing.assert_close(got.x0, expected.x0, rtol=0, atol=1e-12)
    assert network.calls == [4]


@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0, 7.5])
@pytest.mark.parametrize("t", [T, torch.tensor([300.0, 650.0], dtype=torch.float64)])
def test_one_batched_pass_equals_two_and_guides_x0_and_eps_alike(scale, t):
    got, network = guided(scale, t)
    denoiser = Denoiser(Counting(), Linear(), "eps")
    cond, null = denoiser(X, t, COND), denoiser(X, t, NULL)
    torch.testing.assert_close(got.x0, null.x0 + scale * (cond.x0 - null.x0), rtol=0, atol=1e-12)
    torch.testing.assert_close(got.eps, null.eps + scale * (cond.eps - null.eps), rtol=0, atol=1e-12)
    torch.testing.assert_close(got.alpha * got.x0 + got.sigma * got.eps, X, rtol=0, atol=1e-12)
    assert network.calls == [4]


def test_guided_gaussians_follow_the_product_of_densities():
    """Scores add: the guided eps is that of p_cond^w p_uncond^(1-w), a Gaussian of known mean and variance."""
    w, schedule = 2.5, Linear()
    alpha, sigma = schedule.marginal(T, X)

    def network(x, t, *, vector):
        mean, variance = vector[:, :, None, None], 0.25 + 0.25 * vector[:, :, None, None]
        return sigma * (x - alpha * mean) / (alpha**2 * variance + sigma**2)

    cond = Conditioning(vector=torch.ones(2, 1, dtype=torch.float64))
    got = CFG(w)(Denoiser(network, schedule, "eps"), cond, NULL)(X, T)
    v1, v0 = alpha**2 * 0.5 + sigma**2, alpha**2 * 0.25 + sigma**2
    precision = w / v1 + (1 - w) / v0
    mean = w * alpha / v1 / precision
    torch.testing.assert_close(got.eps, sigma * (X - mean) * precision, rtol=0, atol=1e-12)


def test_a_dynamic_threshold_cuts_the_brightest_values_of_each_image():
    x0 = torch.stack([torch.linspace(-0.5, 0.5, 101), torch.linspace(-4.0, 4.0, 101)]).view(2, 1, 1, 101)
    got = dynamic_threshold(x0, quantile=0.5)
    assert torch.equal(got[0], x0[0]), "nothing is beyond 1"
    torch.testing.assert_close(got[1], (x0[1] / 2).clamp(-1, 1), rtol=0, atol=0.03)
    assert got.abs().max() == 1
    torch.testing.assert_close(dynamic_threshold(x0, least=8.0), x0 / 8)


def test_config_round_trip():
    assert from_dict(CFG, to_dict(CFG(5.0))) == CFG(5.0)
