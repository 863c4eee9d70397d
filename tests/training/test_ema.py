import pytest
import torch
from torch import nn

from calotype.training.ema import ConstantEMA, EMAConfig, MovingAverage, PowerFunctionEMA, WarmUpEMA, gamma_of
from calotype.utils.config import from_dict, to_dict


class Holder(nn.Module):
    """One weight and one counter."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))


PROFILES = [PowerFunctionEMA(), WarmUpEMA(decay=0.99), ConstantEMA(decay=0.9)]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_average_of_a_constant_is_the_constant(profile: EMAConfig) -> None:
    source = Holder(3.7)
    average = MovingAverage({"it": source}, profile)
    for step in range(1, 50):
        average.update(step)
        assert torch.equal(average.modules["it"].weight, source.weight)


def test_the_first_step_forgets_the_initial_weights() -> None:
    source = Holder(3.0)
    average = MovingAverage({"it": source}, PowerFunctionEMA())
    source.weight.data.fill_(-5.25)
    average.update(1)
    assert average.modules["it"].weight.item() == -5.25


@pytest.mark.parametrize(("gamma", "expected"), [(6.94, 1776.2), (16.97, 1894.6)])
def test_the_average_of_a_ramp(gamma: float, expected: float) -> None:
    """Of 1, 2 .. N it is N (gamma + 1) / (gamma + 2) for large N."""
    steps, source = 2000, Holder(0.0)
    average = MovingAverage({"it": source}, PowerFunctionEMA(gamma=gamma))
    for step in range(1, steps + 1):
        source.weight.data.fill_(step)
        average.update(step)
    value = average.modules["it"].weight.item()
    assert value == pytest.approx(steps * (gamma + 1) / (gamma + 2), rel=5e-4)
    assert value == pytest.approx(expected, rel=1e-3)


def test_a_constant_decay_weighs_every_step_alike() -> None:
    """0 at first, then ones: after k steps it has kept decay^k of the zero."""
    source = Holder(0.0)
    average = MovingAverage({"it": source}, ConstantEMA(decay=0.9))
    source.weight.data.fill_(1.0)
    for step in range(1, 31):
        average.update(step)
        assert average.modules["it"].weight.item() == pytest.approx(1 - 0.9**step)


def test_a_warm_up_forgets_the_beginning_until_the_decay_is_reached() -> None:
    profile = WarmUpEMA(decay=0.9)
    assert [profile.decay_at(step) for step in (1, 2, 8)] == [2 / 11, 3 / 12, 9 / 18]
    assert profile.decay_at(79) == pytest.approx(80 / 89) != 0.9
    assert {profile.decay_at(step) for step in (80, 81, 10**6)} == {0.9}


@pytest.mark.parametrize(("width", "gamma"), [(0.05, 16.9722), (0.10, 6.9372)])
def test_gamma_of_a_width(width: float, gamma: float) -> None:
    assert gamma_of(width) == pytest.approx(gamma, abs=1e-4)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.25])
def test_a_width_is_the_standard_deviation_of_the_weights(width: float) -> None:
    """Of what every step weighs in the average, read off a run long enough."""
    steps, profile = 20_000, PowerFunctionEMA(gamma=gamma_of(width))
    place = (torch.arange(1, steps + 1, dtype=torch.float64) - 0.5) / steps
    keeps = torch.tensor([profile.decay_at(step) for step in range(1, steps + 1)], dtype=torch.float64)
    after = torch.cat([keeps[1:].flip(0).cumprod(0).flip(0), torch.ones(1, dtype=torch.float64)])
    weights = (1 - keeps) * after
    assert weights.sum().item() == pytest.approx(1)
    mean = (weights * place).sum()
    assert (weights * (place - mean).square()).sum().sqrt().item() == pytest.approx(width, rel=1e-3)


@pytest.mark.parametrize("width", [0.0, 0.29])
def test_a_width_that_no_power_function_has(width: float) -> None:
    with pytest.raises(ValueError, match=r"^width must be"):
        gamma_of(width)


def test_a_warm_up_only_ever_keeps_more() -> None:
    keeps = [WarmUpEMA(decay=0.999).decay_at(step) for step in range(1, 20_000)]
    assert keeps == sorted(keeps)


@pytest.mark.parametrize("profile", PROFILES)
def test_config_round_trip(profile: EMAConfig) -> None:
    assert from_dict(EMAConfig, to_dict(profile)) == profile


def test_settings_from_before_there_were_kinds_are_power_functions() -> None:
    assert from_dict(EMAConfig, {"gamma": 16.97}) == PowerFunctionEMA(gamma=16.97)
    assert from_dict(EMAConfig, {}) == PowerFunctionEMA()


@pytest.mark.parametrize("kind", [WarmUpEMA, ConstantEMA])
def test_a_decay_is_a_share(kind: type) -> None:
    with pytest.raises(ValueError, match=r"^decay must be"):
        kind(decay=1.5)


def test_the_average_is_a_copy_for_inference() -> None:
    source = Holder(1.0).train()
    average = MovingAverage({"it": source}, PowerFunctionEMA())
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
