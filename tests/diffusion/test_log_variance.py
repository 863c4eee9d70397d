import math

import pytest
import torch

from calotype.diffusion import Flow, FourierLogVarianceConfig, Linear, LogVariance, LogVarianceConfig, Objective


def test_a_log_variance_learns_the_mean_error_of_each_time():
    learned, schedule = LogVarianceConfig(init=0.3).build(Linear(timesteps=4)), Linear(timesteps=4)
    assert isinstance(learned, LogVariance)
    assert {key: value.tolist() for key, value in learned.state_dict().items()} == {"logvar": pytest.approx([0.3] * 4)}
    t, error = torch.tensor([0.0, 1, 1, 3]), torch.tensor([1.0, 2, 4, 5])
    output, zero = error.sqrt().view(4, 1, 1, 1), torch.zeros(4, 1, 1, 1)
    for _ in range(100):
        total = Objective().terms(output, zero, zero, t, schedule, learned(t)).total.sum()
        (gradient,) = torch.autograd.grad(total, learned.logvar)
        learned.logvar.data -= 0.3 * gradient
    assert learned.logvar.tolist() == pytest.approx([0.0, math.log(3), 0.3, math.log(5)], abs=1e-3)


def test_a_smooth_log_variance_learns_the_mean_error_of_any_time():
    learned, schedule = FourierLogVarianceConfig(init=0.3).build(Flow()), Flow()
    t = torch.linspace(0, 0.999, 64)
    assert torch.equal(learned(t), torch.full((64,), 0.3))
    assert learned.mean() == pytest.approx(0.3)
    error = 0.1 + 3 * t**2
    output, zero = error.sqrt().view(64, 1, 1, 1), torch.zeros(64, 1, 1, 1)
    optimiser = torch.optim.Adam(learned.parameters(), lr=0.03)
    for _ in range(150):
        logvar = learned(t)
        loss = Objective(prediction="flow").terms(output, zero, zero, t, schedule, logvar).total.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(logvar.detach(), error.log(), rtol=0, atol=0.1)
    assert learned.mean() == pytest.approx(error.log().mean().item(), abs=0.05)


def test_the_waves_are_the_same_everywhere_and_no_weights():
    first, second = (FourierLogVarianceConfig(features=16).build(Flow()) for _ in range(2))
    assert torch.equal(first.frequency, second.frequency)
    assert {name for name, _ in first.named_parameters()} == {"weight", "bias"}
    with pytest.raises(ValueError, match="features"):
        FourierLogVarianceConfig(features=0)
