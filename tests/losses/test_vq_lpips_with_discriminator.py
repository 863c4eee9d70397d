from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calotype.losses import (
    AutoencoderLossConfig,
    LPIPSWithDiscriminatorConfig,
    NLayerDiscriminatorConfig,
    NoPerceptualConfig,
    VQLPIPSWithDiscriminator,
    VQLPIPSWithDiscriminatorConfig,
)
from calotype.models.quantisers import VectorQuantizer2Config
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError


class TanhDistance(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (torch.tanh(x) - torch.tanh(y)).square().mean(dim=(1, 2, 3), keepdim=True)


def make(**options: Any) -> VQLPIPSWithDiscriminator:
    torch.manual_seed(0)
    shared = {"disc_start": 100, "perceptual": NoPerceptualConfig(), "codebook_weight": 0.7, "d_weight_cap": 1e4}
    options = shared | options
    shape = NLayerDiscriminatorConfig(channels=8, num_layers=1)
    loss = VQLPIPSWithDiscriminatorConfig(discriminator=shape, **options).build().double()
    loss.perceptual_loss = TanhDistance()
    return loss


def images() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    inputs, reconstructions = torch.randn(2, 3, 3, 12, 12, generator=draw, dtype=torch.float64).tanh()
    return inputs, reconstructions


@pytest.mark.parametrize("samples_seen", [99, 100])
def test_one_backward_pass_is_the_gradient_of_the_written_loss(samples_seen: int) -> None:
    """Through decoder, codes and encoder: nll + codebook_weight * codebook loss + adaptive weight * generator loss."""
    loss, (inputs, _) = make(), images()
    encoder, decoder = nn.Conv2d(3, 4, 1).double(), nn.Conv2d(4, 3, 1).double()
    quantiser = VectorQuantizer2Config(codes=5).build(4).double()
    quantised = quantiser(encoder(inputs))
    reconstructions = decoder(quantised.z)
    trained = [encoder.weight, quantiser.embedding.weight, decoder.weight]

    nll = loss.nll_loss(loss.reconstruction_loss(inputs, reconstructions))
    generator = -loss.discriminator(reconstructions).mean()
    norms = [torch.autograd.grad(part, decoder.weight, retain_graph=True)[0].norm() for part in (nll, generator)]
    weight = 0.5 * norms[0] / (norms[1] + 1e-4) * (samples_seen >= 100)
    total = nll + 0.7 * quantised.loss + weight.detach() * generator
    expected = torch.autograd.grad(total, trained, retain_graph=True)

    terms = loss.generator_step_gradients(inputs, reconstructions, decoder.weight, samples_seen)
    codebook_weight = torch.tensor(loss.config.codebook_weight, dtype=torch.float64)
    torch.autograd.backward([reconstructions, quantised.loss], [terms.gradient, codebook_weight])
    for parameter, gradient in zip(trained, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    torch.testing.assert_close(terms.adaptive_weight, weight.detach())


@pytest.mark.parametrize(("reconstruction", "power"), [("l1", 1), ("l2", 2)])
def test_everything_is_a_mean(reconstruction: str, power: int) -> None:
    loss, (inputs, reconstructions) = make(reconstruction=reconstruction, perceptual_weight=0.3), images()
    distance = loss.perceptual_distance(inputs, reconstructions)
    expected = (inputs - reconstructions).abs().pow(power).mean() + 0.3 * distance.mean()
    torch.testing.assert_close(loss.nll_loss(loss.reconstruction_loss(inputs, reconstructions)), expected)
    terms = loss.generator_step_gradients(inputs, reconstructions.requires_grad_(), reconstructions, 0)
    torch.testing.assert_close(terms.nll, expected.detach())
    torch.testing.assert_close(terms.reconstruction_loss, expected.detach())
    torch.testing.assert_close(terms.perceptual_loss, distance.mean())


def test_without_weight_the_perceptual_network_does_not_run() -> None:
    loss, (inputs, reconstructions) = make(perceptual_weight=0.0), images()
    loss.perceptual_loss = None
    assert torch.equal(loss.perceptual_distance(inputs, reconstructions), torch.zeros(3, 1, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(loss.reconstruction_loss(inputs, reconstructions), (inputs - reconstructions).abs())


def test_state_has_the_references_keys() -> None:
    config = VQLPIPSWithDiscriminatorConfig(disc_start=0)
    assert {name.split(".")[0] for name in config.build().state_dict()} == {"perceptual_loss", "discriminator"}


@pytest.mark.parametrize(
    "config",
    [VQLPIPSWithDiscriminatorConfig(disc_start=3, codebook_weight=2.0), LPIPSWithDiscriminatorConfig(disc_start=3)],
)
def test_configs_round_trip_by_their_tag(config: AutoencoderLossConfig) -> None:
    assert from_dict(AutoencoderLossConfig, to_dict(config)) == config


def test_mistakes_are_named() -> None:
    for name in ("codebook_weight", "perceptual_weight"):
        with pytest.raises(ValueError, match=f"{name} must not be negative: -1"):
            VQLPIPSWithDiscriminatorConfig(disc_start=0, **{name: -1.0})
    with pytest.raises(UserError, match="kl_weight"):
        from_dict(AutoencoderLossConfig, {"kind": "vq_lpips_with_discriminator", "disc_start": 0, "kl_weight": 1.0})
