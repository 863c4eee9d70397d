import pytest
import torch
from torch import nn

from calotype.nn.normalisation import group_norm, zero_init


@pytest.mark.parametrize(("channels", "groups"), [(32, 32), (64, 32), (224, 32), (48, 16), (20, 4), (3, 1)])
def test_groups_are_the_largest_power_of_two_up_to_32(channels: int, groups: int) -> None:
    norm = group_norm(channels)
    assert norm.num_groups == groups
    y = norm(3 + 5 * torch.randn(2, channels, 8, 8)).view(2, groups, -1)
    torch.testing.assert_close(y.mean(dim=-1), torch.zeros(2, groups), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(dim=-1, correction=0), torch.ones(2, groups), atol=1e-4, rtol=0)


def test_epsilon_limits_what_tiny_inputs_become() -> None:
    x = torch.full((1, 32, 1, 2), 1e-3) * torch.tensor([-1.0, 1.0])
    for epsilon in (1e-5, 1e-6):
        torch.testing.assert_close(group_norm(32, epsilon)(x), x / (1e-6 + epsilon) ** 0.5)


def test_zero_init_returns_the_module_with_zeros() -> None:
    convolution = nn.Conv2d(2, 3, 1)
    assert zero_init(convolution) is convolution
    assert not any(parameter.any() for parameter in convolution.parameters())
