import pytest
import torch
from torch import nn

from calotype.training.ema import EMAConfig, MovingAverage


class Holder(nn.Module):
    """One weight and one counter."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))


def test_the_average_of_a_constant_is_the_constant() -> None:
    source = Holder(3.7)
    average = MovingAverage({"it": source}, EMAConfig())
    for step in range(1, 50):
        average.update(step)
        assert torch.equal(average.modules["it"].weight, source.weight)


def test_the_first_step_forgets_the_initial_weights() -> None:
    source = Holder(3.0)
    average = MovingAverage({"it": source}, EMAConfig())
    source.weight.data.fill_(-5.25)
    average.update(1)
    assert average.modules["it"].weight.item() == -5.25


@pytest.mark.parametrize(("gamma", "expected"), [(6.94, 1776.2), (16.97, 1894.6)])
def test_the_average_of_a_ramp(gamma: float, expected: float) -> None:
    """Of 1, 2 .. N it is N (gamma + 1) / (gamma + 2) for large N."""
    steps, source = 2000, Holder(0.0)
    average = MovingAverage({"it": source}, EMAConfig(gamma=gamma))
    for step in range(1, steps + 1):
        source.weight.data.fill_(step)
        average.update(step)
    value = average.modules["it"].weight.item()
    assert value == pytest.approx(steps * (gamma + 1) / (gamma + 2), rel=5e-4)
    assert value == pytest.approx(expected, rel=1e-3)


def test_the_average_is_a_copy_for_inference() -> None:
    source = Holder(1.0).train()
    average = MovingAverage({"it": source}, EMAConfig())
    copy = average.modules["it"]
    source.weight.data.fill_(2.0)
    source.count.fill_(7)
    assert copy.weight.item() == 1.0
    assert not copy.training
    assert not copy.weight.requires_grad
    average.update(3)
    assert copy.count.item() == 7
    assert source.training
    assert source.weight.requires_grad
