import pytest
import torch

from calotype.diffusion.prediction import estimate, target, x0_error

# (alpha, sigma): a variance-preserving level, a flow's, one that is neither, and the two ends.
LEVELS = [(0.6, 0.8), (0.3, 0.7), (1.7, 0.2), (1.0, 0.0), (0.0, 1.0)]
CASES = [
    (prediction, level)
    for prediction in ("eps", "x0", "v", "flow")
    for level in LEVELS
    if (prediction, level) not in {("eps", (0.0, 1.0)), ("x0", (1.0, 0.0))}
]


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("prediction", "level"), CASES)
def test_the_target_gives_back_image_and_noise(prediction, level):
    x0, noise = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    alpha, sigma = double(level[0]), double(level[1])
    x_t = alpha * x0 + sigma * noise
    got = estimate(prediction, target(prediction, x0, noise, alpha, sigma), x_t, alpha, sigma)
    torch.testing.assert_close(got.x0, x0, rtol=0, atol=1e-10)
    torch.testing.assert_close(got.eps, noise, rtol=0, atol=1e-10)


def test_targets_are_the_published_ones():
    x0, noise = torch.randn(2, 1, 1, 2, 2, dtype=torch.float64)
    alpha, sigma = double(0.6), double(0.8)
    assert torch.equal(target("eps", x0, noise, alpha, sigma), noise)
    assert torch.equal(target("x0", x0, noise, alpha, sigma), x0)
    torch.testing.assert_close(target("v", x0, noise, alpha, sigma), 0.6 * noise - 0.8 * x0)
    torch.testing.assert_close(target("flow", x0, noise, alpha, sigma), noise - x0)


@pytest.mark.parametrize(("prediction", "level"), CASES)
def test_what_is_predicted_comes_out_unchanged_and_every_estimate_is_of_x_t(prediction, level):
    output, x_t = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    alpha, sigma = double(level[0]), double(level[1])
    got = estimate(prediction, output, x_t, alpha, sigma)
    if prediction in ("eps", "x0"):
        assert torch.equal(getattr(got, prediction), output)
    torch.testing.assert_close(alpha * got.x0 + sigma * got.eps, x_t, rtol=0, atol=1e-10)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
def test_x0_error_is_the_slope_of_x0(prediction):
    alpha, sigma = double(0.3), double(0.7)
    x_t, output = torch.randn(2, 1, 1, 2, 2, dtype=torch.float64)
    moved = estimate(prediction, output + 1, x_t, alpha, sigma).x0 - estimate(prediction, output, x_t, alpha, sigma).x0
    torch.testing.assert_close(moved.abs(), x0_error(prediction, alpha, sigma).expand_as(moved))


def test_a_new_image_leaves_x_t_what_it_is_unless_eps_is_kept():
    x_t, output = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    alpha, sigma = double(0.6), double(0.8)
    old = estimate("v", output, x_t, alpha, sigma)
    new = old.with_x0(old.x0.clamp(-0.5, 0.5))
    torch.testing.assert_close(alpha * new.x0 + sigma * new.eps, x_t)
    assert not torch.equal(new.eps, old.eps)
    assert old.with_x0(new.x0, keep_eps=True).eps is old.eps
