from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.losses import LPIPSWithDiscriminator, LPIPSWithDiscriminatorConfig, NLayerDiscriminatorConfig
from calotype.losses.discriminator_penalties import DECAY, LeCam, r1_penalty
from calotype.losses.perceptual import NoPerceptualConfig


def make(**options: Any) -> LPIPSWithDiscriminator:
    torch.manual_seed(0)
    shape = NLayerDiscriminatorConfig(channels=8, num_layers=1)
    config = LPIPSWithDiscriminatorConfig(
        disc_start=0, perceptual=NoPerceptualConfig(), perceptual_weight=0.0, discriminator=shape, **options
    )
    return config.build().double()


def pictures(count: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(2, count, 3, 16, 16, dtype=torch.float64).tanh().unbind()


def test_r1_of_a_linear_discriminator_is_its_slope() -> None:
    """D = w . x at every one of 16 positions: a gradient of |w|^2 for each patch, whatever the batch and the size."""
    convolution = nn.Conv2d(3, 1, 4, stride=4, bias=False)
    for shape in ((2, 3, 16, 16), (5, 3, 8, 32)):
        images = torch.randn(shape, requires_grad=True)
        penalty = r1_penalty(images, convolution(images))
        torch.testing.assert_close(penalty, convolution.weight.square().sum())
    penalty.backward()
    torch.testing.assert_close(convolution.weight.grad, 2 * convolution.weight.detach())


def test_r1_is_half_its_weight_in_the_loss_and_falls_in_training() -> None:
    real, fake = pictures()
    plain, _ = make().discriminator_loss(real, fake)
    loss, logs = make(r1_weight=3.0).discriminator_loss(real, fake)
    torch.testing.assert_close(loss, plain + 1.5 * logs["r1"])
    assert not real.requires_grad
    after = {}
    for weight in (0.0, 100.0):
        module = make(r1_weight=weight)
        optimiser = torch.optim.Adam(module.discriminator.parameters(), lr=2e-3)
        for _ in range(30):
            optimiser.zero_grad()
            module.discriminator_loss(real, fake)[0].backward()
            optimiser.step()
        shown = real.clone().requires_grad_()
        after[weight] = r1_penalty(shown, module.discriminator(shown)).item()
    assert after[100.0] < 0.1 * after[0.0]


def test_lecam_by_its_equation() -> None:
    lecam = LeCam().double()
    real, fake = torch.randn(2, 4, 1, 3, 3, dtype=torch.float64)
    assert lecam(real, fake) == 0, "nothing before there are averages"
    lecam.update(torch.tensor(0.8), torch.tensor(-0.2))
    assert (lecam.real.item(), lecam.fake.item()) == pytest.approx((0.8, -0.2))
    torch.testing.assert_close(lecam(real, fake), (real + 0.2).square().mean() + (fake - 0.8).square().mean())
    lecam.update(torch.tensor(0.0), torch.tensor(1.0))
    assert lecam.real.item() == pytest.approx(DECAY * 0.8)
    assert lecam.fake.item() == pytest.approx(-DECAY * 0.2 + 1 - DECAY)


def test_lecam_is_part_of_the_loss_and_of_the_state() -> None:
    real, fake = pictures()
    module = make(lecam_weight=0.5)
    module.lecam.update(torch.tensor(0.3), torch.tensor(-0.3))
    loss, logs = module.discriminator_loss(real, fake)
    logits = module.discriminator(real), module.discriminator(fake)
    expected = (F.relu(1 - logits[0]).mean() + F.relu(1 + logits[1]).mean()) / 2
    penalty = (logits[0] + 0.3).square().mean() + (logits[1] - 0.3).square().mean()
    torch.testing.assert_close(loss, expected + 0.5 * penalty)
    torch.testing.assert_close(logs["lecam"], penalty.detach())
    assert {"lecam.real", "lecam.fake", "lecam.begun"} <= module.state_dict().keys()
    assert not any(key.startswith("lecam") for key in make().state_dict()), "keys of the reference where it is off"


@pytest.mark.parametrize("name", ["disc_ramp", "d_weight_cap", "r1_weight", "lecam_weight"])
def test_mistakes_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must not be negative: -1"):
        LPIPSWithDiscriminatorConfig(disc_start=0, **{name: -1 if name == "disc_ramp" else -1.0})
