import math

import pytest
import torch

from calotype.losses.adversarial import adopt_weight, hinge_d_loss, vanilla_d_loss

REAL = torch.tensor([[2.0, 0.5], [-1.0, 1.0]])
FAKE = torch.tensor([[-3.0, 0.0], [1.0, -1.0]])


def test_values_at_known_logits() -> None:
    assert hinge_d_loss(REAL, FAKE).item() == pytest.approx(0.5 * ((0 + 0.5 + 2 + 0) / 4 + (0 + 1 + 2 + 0) / 4))
    real = sum(math.log1p(math.exp(-x)) for x in (2.0, 0.5, -1.0, 1.0)) / 4
    fake = sum(math.log1p(math.exp(x)) for x in (-3.0, 0.0, 1.0, -1.0)) / 4
    assert vanilla_d_loss(REAL, FAKE).item() == pytest.approx(0.5 * (real + fake))
    zeros = torch.zeros(3, 1, 2, 2)
    assert hinge_d_loss(zeros, zeros).item() == 1.0
    assert vanilla_d_loss(zeros, zeros).item() == pytest.approx(math.log(2))


def test_a_perfect_discriminator_has_no_hinge_loss_and_no_gradient() -> None:
    real, fake = torch.full((2, 1, 3, 3), 1.5, requires_grad=True), torch.full((2, 1, 3, 3), -1.5, requires_grad=True)
    loss = hinge_d_loss(real, fake)
    loss.backward()
    assert loss.item() == 0
    assert not real.grad.any()
    assert not fake.grad.any()


def test_example_weights() -> None:
    assert hinge_d_loss(REAL, FAKE, torch.tensor([2.0, 2.0])).item() == pytest.approx(hinge_d_loss(REAL, FAKE).item())
    assert hinge_d_loss(REAL, FAKE, torch.tensor([1.0, 0.0])) == hinge_d_loss(REAL[:1], FAKE[:1])


def test_the_weight_starts_at_the_threshold() -> None:
    assert [adopt_weight(0.8, seen, 100) for seen in (0, 99, 100, 101)] == [0.0, 0.0, 0.8, 0.8]
