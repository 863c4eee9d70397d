import pytest
import torch
from torch import nn

from calotype.training.optimiser import NonFiniteError, OptimiserConfig, check_finite, check_gradients, step_share


def test_rate_warms_up_holds_and_falls_to_zero() -> None:
    config = OptimiserConfig(learning_rate=0.5, warmup_samples=100, decay_from=0.6)
    rates = [config.rate(seen, 1000) for seen in range(1001)]
    assert rates[0] == pytest.approx(0.005)
    assert rates[:100] == pytest.approx([0.5 * (seen + 1) / 100 for seen in range(100)])
    assert set(rates[100:601]) == {0.5}
    assert rates[600:] == pytest.approx([0.5 * (1000 - seen) / 400 for seen in range(600, 1001)])
    assert rates[1000] == 0


def test_a_short_run_warms_up_for_a_tenth_of_it() -> None:
    config = OptimiserConfig(learning_rate=0.5, warmup_samples=6_400, decay_from=1.0)
    assert [config.rate(seen, 1_000) for seen in (0, 49, 99, 500)] == pytest.approx([0.005, 0.25, 0.5, 0.5])


def test_rate_without_decay_or_warm_up() -> None:
    constant = OptimiserConfig(learning_rate=0.5, warmup_samples=0, decay_from=1.0)
    assert {constant.rate(seen, 100) for seen in range(100)} == {0.5}
    linear = OptimiserConfig(learning_rate=0.5, warmup_samples=0, decay_from=0.0)
    assert [linear.rate(seen, 100) for seen in (0, 50, 100)] == [0.5, 0.25, 0]


@pytest.mark.parametrize(("field", "value"), [("learning_rate", 0.0), ("decay_from", 1.5)])
def test_bad_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field} must"):
        OptimiserConfig(**{field: value})


@pytest.fixture
def layer() -> nn.Linear:
    layer = nn.Linear(3, 2)
    (layer.weight.grad, layer.bias.grad) = (torch.full((2, 3), 2.0), torch.full((2,), 5.0))
    return layer


def total_norm(module: nn.Module) -> float:
    return float(torch.cat([parameter.grad.flatten() for parameter in module.parameters()]).norm())


def test_gradients_are_clipped_to_the_norm(layer: nn.Linear) -> None:
    before, optimiser = total_norm(layer), OptimiserConfig().build(layer.parameters())
    assert before == pytest.approx((6 * 4 + 2 * 25) ** 0.5)
    assert float(check_gradients(optimiser, 0.5, "it")) == pytest.approx(before)
    assert total_norm(layer) == pytest.approx(0.5)
    torch.testing.assert_close(layer.bias.grad / layer.weight.grad[0, 0], torch.full((2,), 2.5))


@pytest.mark.parametrize("clip", [0.0, 100.0])
def test_gradients_below_the_norm_or_unclipped_stay(layer: nn.Linear, clip: float) -> None:
    check_gradients(OptimiserConfig().build(layer.parameters()), clip, "it")
    assert (layer.weight.grad == 2).all()
    assert (layer.bias.grad == 5).all()


def test_the_share_of_a_step_is_that_of_adams_first(layer: nn.Linear) -> None:
    """Adam's first step moves every weight by its rate: the rate over the weights' size, biases left out."""
    optimiser = OptimiserConfig(learning_rate=0.25, betas=(0.5, 0.9)).build(layer.parameters())
    before, share = layer.weight.detach().clone(), step_share(optimiser, 0.25)
    layer.bias.data.fill_(1e6)
    assert step_share(optimiser, 0.25) == share
    optimiser.step()
    assert share == pytest.approx(float((layer.weight.detach() - before).norm() / before.norm()), rel=1e-5)


def test_nothing_has_no_share() -> None:
    vector, zeros = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3, 3))
    assert step_share(OptimiserConfig().build([vector, zeros]), 1.0) == 0


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_gradients_that_are_not_finite_are_dropped(layer: nn.Linear, bad: float) -> None:
    weights = {key: value.clone() for key, value in layer.state_dict().items()}
    layer.weight.grad[1, 1] = bad
    with pytest.raises(NonFiniteError, match="the gradient of it is not finite"):
        check_gradients(OptimiserConfig().build(layer.parameters()), 1.0, "it")
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    assert all(torch.equal(weights[key], value) for key, value in layer.state_dict().items())


def test_check_finite_looks_at_every_element() -> None:
    check_finite(torch.tensor([1.0, -2.0]), "it")
    with pytest.raises(NonFiniteError, match=r"^it is not finite$"):
        check_finite(torch.tensor([1.0, torch.nan]), "it")


def test_frozen_parameters_are_left_out(layer: nn.Linear) -> None:
    layer.bias.requires_grad_(False)
    (group,) = OptimiserConfig().build(layer.parameters()).param_groups
    assert [parameter is layer.weight for parameter in group["params"]] == [True]
