import pytest
import torch
from torch import nn

from calotype.losses.discriminator import ActNorm, NLayerDiscriminatorConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError


def count(config: NLayerDiscriminatorConfig) -> int:
    return sum(parameter.numel() for parameter in config.build().parameters())


def test_the_reference_network() -> None:
    config = NLayerDiscriminatorConfig(normalisation="batch")
    model = config.build()
    assert count(config) == 2_765_633
    convolutions = [module for module in model.main if isinstance(module, nn.Conv2d)]
    assert [(c.out_channels, c.stride[0], c.bias is not None) for c in convolutions] == [
        (64, 2, True),
        (128, 2, False),
        (256, 2, False),
        (512, 1, False),
        (1, 1, True),
    ]
    assert convolutions[3].weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert model.main[9].weight.mean().item() == pytest.approx(1, abs=0.01)


def test_a_logit_sees_70_pixels() -> None:
    model = NLayerDiscriminatorConfig(channels=4, normalisation="act").build().eval()
    images = torch.zeros(1, 3, 96, 96, requires_grad=True)
    logits = model(images)
    assert logits.shape == (1, 1, 10, 10)
    logits[0, 0, 5, 5].backward()
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 == 70


def test_group_normalisation_keeps_examples_apart() -> None:
    model = NLayerDiscriminatorConfig(channels=16, num_layers=2).build()
    images = torch.randn(3, 3, 32, 40)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]))
    groups = [module for module in model.main if isinstance(module, nn.GroupNorm)]
    assert [group.num_channels // group.num_groups for group in groups] == [4, 4]


def test_spectral_normalisation_bounds_every_layer() -> None:
    model = NLayerDiscriminatorConfig(channels=8, num_layers=1, normalisation="spectral").build()
    for _ in range(50):
        model(torch.randn(2, 3, 16, 16))
    plain = NLayerDiscriminatorConfig(channels=8, num_layers=1).build()
    assert [type(layer) for layer in model.eval().main][2] is not type(plain.main[2]), "without another normalisation"
    for layer in model.main:
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)
    keys = {key.removesuffix(".parametrizations.weight.original") for key in model.state_dict()}
    assert {"main.0", "main.2", "main.5"} <= keys
    assert "main.0.weight" in plain.state_dict()


def test_act_norm_starts_normalised_once() -> None:
    norm = ActNorm(3)
    x = 5 + 2 * torch.randn(8, 3, 6, 6) * torch.tensor([1.0, 3.0, 0.1]).view(3, 1, 1)
    assert torch.equal(norm.eval()(x), x), "evaluation does not initialise"
    y = norm.train()(x)
    std, mean = torch.std_mean(y, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(3), atol=1e-4, rtol=0)
    assert norm.initialized.dtype == torch.uint8
    assert norm.initialized == 1
    torch.testing.assert_close(norm(x + 1), norm.scale * (x + 1 + norm.loc))


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="at least 24 pixels, not 16x40: lower num_layers"):
        NLayerDiscriminatorConfig().build()(torch.zeros(1, 3, 16, 40))
    with pytest.raises(ValueError, match="num_layers"):
        NLayerDiscriminatorConfig(num_layers=0)
    with pytest.raises(ValueError, match="multiple of 4"):
        NLayerDiscriminatorConfig(channels=10)
    smallest = NLayerDiscriminatorConfig(channels=4, num_layers=2).build()
    assert smallest(torch.zeros(1, 3, 12, 15)).shape == (1, 1, 1, 1)


def test_config_round_trips() -> None:
    config = NLayerDiscriminatorConfig(in_channels=4, normalisation="batch")
    assert from_dict(NLayerDiscriminatorConfig, to_dict(config)) == config
