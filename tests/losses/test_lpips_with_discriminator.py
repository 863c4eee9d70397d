from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calotype.losses import (
    GeneratorTerms,
    LPIPSWithDiscriminator,
    LPIPSWithDiscriminatorConfig,
    NLayerDiscriminatorConfig,
    NoPerceptualConfig,
    SqueezeNetPerceptualConfig,
)
from calotype.models.distributions import DiagonalGaussianDistribution
from calotype.utils.config import from_dict, to_dict


class TanhDistance(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (torch.tanh(x) - torch.tanh(y)).square().mean(dim=(1, 2, 3), keepdim=True)


def make(**options: Any) -> LPIPSWithDiscriminator:
    torch.manual_seed(0)
    shared = {"disc_start": 100, "perceptual": NoPerceptualConfig(), "logvar_init": 0.3, "d_weight_cap": 1e4}
    options = shared | options
    shape = NLayerDiscriminatorConfig(channels=8, num_layers=1)
    loss = LPIPSWithDiscriminatorConfig(discriminator=shape, **options).build()
    loss.perceptual_loss = TanhDistance()
    return loss


def decode(dtype: torch.dtype) -> tuple[Tensor, nn.Conv2d, nn.Conv2d, Tensor, Tensor]:
    """Images, a decoder of two layers, its reconstructions of them and the moments it decoded."""
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 12, 12, generator=draw, dtype=dtype).tanh()
    moments = torch.randn(3, 8, 12, 12, generator=draw, dtype=dtype).requires_grad_()
    torch.manual_seed(2)
    first, last = nn.Conv2d(4, 6, 3, padding=1).to(dtype), nn.Conv2d(6, 3, 3, padding=1).to(dtype)
    z = DiagonalGaussianDistribution(moments).sample(torch.ones(3, 4, 12, 12, dtype=dtype))
    return images, first, last, last(F.silu(first(z))), moments


@pytest.mark.parametrize("samples_seen", [99, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_backward_pass_equals_the_references_three(
    samples_seen: int, dtype: torch.dtype, tolerance: float, reduction: str
) -> None:
    loss = make(reduction=reduction, kl_weight=0.01).to(dtype)
    images, first, last, reconstructions, moments = decode(dtype)
    trained = [first.weight, last.weight, last.bias, moments]

    nll = loss.nll_loss(loss.reconstruction_loss(images, reconstructions))
    kl = loss.kl_loss(DiagonalGaussianDistribution(moments), images[0].numel())
    generator = loss.generator_loss(reconstructions)
    norms = [torch.autograd.grad(part, last.weight, retain_graph=True)[0].norm() for part in (nll, generator)]
    weight = 0.5 * (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4) * (samples_seen >= 100)
    expected = torch.autograd.grad(nll + 0.01 * kl + weight.detach() * generator, trained, retain_graph=True)

    terms = loss.generator_step_gradients(images, reconstructions, last.weight, samples_seen)
    assert all(parameter.grad is None for parameter in (*loss.parameters(), last.weight)), "nothing accumulates yet"
    torch.autograd.backward([reconstructions, kl], [terms.gradient, torch.tensor(0.01, dtype=dtype)])
    for parameter, gradient in zip(trained, expected, strict=True):
        error = (parameter.grad - gradient).abs().max() / gradient.abs().max()
        assert error < tolerance
    torch.testing.assert_close(terms.nll, nll.detach())
    torch.testing.assert_close(terms.adaptive_weight, weight.detach())
    assert terms.disc_factor == (samples_seen >= 100)
    assert all(parameter.grad is None for parameter in loss.discriminator.parameters())


def test_the_discriminator_is_felt_little_by_little() -> None:
    """Its own loss counts in full from the start; the gradient that it gives grows over the ramp."""
    loss = make(disc_ramp=40)
    images, _, last, reconstructions, _ = decode(torch.float64)
    loss.double()
    gradients = {}
    for seen in (99, 100, 110, 140, 1000):
        terms = loss.generator_step_gradients(images, reconstructions, last.weight, seen)
        gradients[seen] = terms.gradient
        assert terms.disc_factor == (seen >= 100)
        assert bool(terms.adaptive_weight) == (seen >= 100)
    full = gradients[140] - gradients[99]
    assert full.abs().max() > 0
    torch.testing.assert_close(gradients[100], gradients[99])
    torch.testing.assert_close(gradients[110] - gradients[99], full / 4)
    torch.testing.assert_close(gradients[1000], gradients[140])


class Counting(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, *images: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(*images)


def test_the_discriminator_does_not_run_before_its_start() -> None:
    loss = make()
    loss.discriminator, loss.perceptual_loss = Counting(loss.discriminator), Counting(loss.perceptual_loss)
    images, _, last, reconstructions, _ = decode(torch.float32)
    calls = []
    for samples_seen in (0, 99, 100):
        terms = loss.generator_step_gradients(images, reconstructions, last.weight, samples_seen)
        calls.append((loss.discriminator.calls, loss.perceptual_loss.calls))
        assert bool(terms.adaptive_weight) == bool(terms.generator_loss) == (samples_seen == 100)
    assert calls == [(0, 1), (0, 2), (1, 3)]


def test_the_discriminators_step_gives_the_autoencoder_nothing() -> None:
    loss = make()
    images, _, last, reconstructions, _ = decode(torch.float32)
    value, logs = loss.discriminator_loss(images.requires_grad_(), reconstructions)
    value.backward()
    assert last.weight.grad is None
    assert images.grad is None
    assert all(parameter.grad is not None for parameter in loss.discriminator.parameters())
    real, fake = loss.discriminator(images), loss.discriminator(reconstructions)
    torch.testing.assert_close(value, 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean()))
    assert logs == {"logits_real": real.mean(), "logits_fake": fake.mean()}
    vanilla, _ = make(disc_loss="vanilla").discriminator_loss(images, reconstructions)
    torch.testing.assert_close(vanilla, 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean()))


def test_a_conditional_discriminator_sees_the_condition() -> None:
    loss = make()
    loss.discriminator = NLayerDiscriminatorConfig(in_channels=5, channels=8, num_layers=1).build()
    images, _, last, reconstructions, _ = decode(torch.float32)
    condition = torch.randn(3, 2, 12, 12)
    joined = loss.discriminator(torch.cat([reconstructions, condition], dim=1))
    terms = loss.generator_step_gradients(images, reconstructions, last.weight, 100, condition=condition)
    torch.testing.assert_close(terms.generator_loss, -joined.mean().detach())
    _, logs = loss.discriminator_loss(images, reconstructions, condition)
    torch.testing.assert_close(logs["logits_fake"], joined.mean().detach())


def test_the_adaptive_weight_balances_the_gradients() -> None:
    loss = make()
    nll_grad, generator_grad = torch.randn(4, 3), torch.randn(4, 3)
    weight = loss.adaptive_weight(nll_grad, generator_grad)
    torch.testing.assert_close(weight * generator_grad.norm(), 0.5 * nll_grad.norm(), rtol=1e-3, atol=0)
    torch.testing.assert_close(loss.adaptive_weight(3 * nll_grad, generator_grad), 3 * weight)
    torch.testing.assert_close(loss.adaptive_weight(nll_grad, 3 * generator_grad), weight / 3, rtol=1e-3, atol=0)
    assert loss.adaptive_weight(1e9 * nll_grad, generator_grad).item() == 0.5 * 1e4
    assert make(d_weight_cap=3.0).adaptive_weight(1e9 * nll_grad, generator_grad).item() == 0.5 * 3.0
    assert torch.isfinite(loss.adaptive_weight(nll_grad, torch.zeros(4, 3)))
    assert loss.adaptive_weight(nll_grad.bfloat16(), generator_grad.bfloat16()).dtype == torch.float32


def test_ranks_share_one_adaptive_weight() -> None:
    """Two ranks that average their gradients find the weight of one process with both halves of the batch."""
    loss = make()
    images, first, last, _, moments = decode(torch.float32)

    def terms(rows: slice, average: Any) -> GeneratorTerms:
        reconstructions = last(F.silu(first(moments[rows, :4])))
        return loss.generator_step_gradients(images[rows], reconstructions, last.weight, 100, average=average)

    seen: dict[str, list[Tensor]] = {"a": [], "b": []}
    ranks = {"a": slice(0, 1), "b": slice(1, 2)}
    for rank, rows in ranks.items():
        terms(rows, lambda gradient, rank=rank: seen[rank].append(gradient) or gradient)
    averages = [(a + b) / 2 for a, b in zip(seen["a"], seen["b"], strict=True)]
    whole = terms(slice(0, 2), lambda gradient: gradient)
    for rows in ranks.values():
        replies = iter(averages)
        shared = terms(rows, lambda gradient, replies=replies: next(replies))
        torch.testing.assert_close(shared.adaptive_weight, whole.adaptive_weight)


def test_the_mean_reduction_is_the_sum_over_the_image_size() -> None:
    images, _, _, reconstructions, moments = decode(torch.float64)
    posterior = DiagonalGaussianDistribution(moments)
    values = {}
    for reduction in ("mean", "sum"):
        loss = make(reduction=reduction)
        rec_loss = loss.reconstruction_loss(images, reconstructions)
        nll, weighted = loss.nll_loss(rec_loss), loss.nll_loss(rec_loss, torch.full((3, 1, 1, 1), 2.0))
        values[reduction] = torch.stack([weighted, nll, loss.kl_loss(posterior, images[0].numel())])
    torch.testing.assert_close(values["sum"], values["mean"] * 3 * 12 * 12)
    weighted, nll, kl = values["sum"]
    torch.testing.assert_close(weighted, 2 * nll)
    torch.testing.assert_close(kl, posterior.kl().mean())
    perceptual = TanhDistance()(images, reconstructions)
    per_pixel = ((images - reconstructions).abs() + perceptual) / torch.tensor(0.3).exp() + torch.tensor(0.3)
    torch.testing.assert_close(nll, per_pixel.sum() / 3)


@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_pixel_losses(size: tuple[int, int]) -> None:
    zeros, noise = torch.zeros(2, 3, *size), torch.randn(2, 3, *size)
    options = {"perceptual_weight": 0.0}
    multiscale = make(reconstruction="multiscale_l1", **options)
    l1, l2 = make(reconstruction="l1", **options), make(reconstruction="l2", **options)
    torch.testing.assert_close(l1.reconstruction_loss(zeros, noise), noise.abs())
    torch.testing.assert_close(l2.reconstruction_loss(zeros, noise), noise.square())
    constant = torch.full_like(noise, 0.25)
    torch.testing.assert_close(multiscale.reconstruction_loss(zeros, constant), constant)
    fine = multiscale.reconstruction_loss(zeros, noise)
    assert fine.shape == noise.shape
    assert 0.25 * noise.abs().mean() < fine.mean() < 0.6 * noise.abs().mean(), "noise averages out at coarse scales"
    block = zeros.clone()
    block[:, :, 8:10, 8:10] = 1.0
    map_of_block = multiscale.reconstruction_loss(zeros, block)
    torch.testing.assert_close(
        map_of_block[0, 0, 9, 9].item(), (1 + 1 + 4 / 16 + block[0, 0, 8:, 8:16].mean().item()) / 4
    )
    assert map_of_block[:, :, :8].abs().max() == 0, "blocks keep to themselves"


def test_bfloat16_autocast_keeps_the_arithmetic_in_float32() -> None:
    loss = make()
    images, first, last, _, moments = decode(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        reconstructions = last(F.silu(first(moments[:, :4])))
        terms = loss.generator_step_gradients(images, reconstructions, last.weight, 100)
    assert reconstructions.dtype == terms.gradient.dtype == torch.bfloat16
    assert terms.nll.dtype == terms.adaptive_weight.dtype == terms.generator_loss.dtype == torch.float32
    exact = last(F.silu(first(moments[:, :4])))
    expected = loss.generator_step_gradients(images, exact, last.weight, 100)
    torch.testing.assert_close(terms.adaptive_weight, expected.adaptive_weight, rtol=0.05, atol=0)


def test_a_bfloat16_decoder_meets_a_float32_loss() -> None:
    loss = make()
    images, first, last, _, moments = decode(torch.float32)
    rough = last.bfloat16()(F.silu(first.bfloat16()(moments[:, :4].bfloat16())))
    terms = loss.generator_step_gradients(images, rough, last.weight, 100)
    assert terms.gradient.dtype == torch.bfloat16
    nll = loss.nll_loss(loss.reconstruction_loss(images, rough.float()))
    assert torch.equal(terms.nll, nll.detach())


def test_it_trains_with_the_real_perceptual_network() -> None:
    torch.manual_seed(0)
    config = LPIPSWithDiscriminatorConfig(
        disc_start=0, discriminator=NLayerDiscriminatorConfig(channels=8, num_layers=2), perceptual_weight=0.5
    )
    loss = config.build()
    assert isinstance(config.perceptual, SqueezeNetPerceptualConfig)
    assert {name.split(".")[0] for name in loss.state_dict()} == {"logvar", "perceptual_loss", "discriminator"}
    images = F.interpolate(torch.rand(2, 3, 4, 4) * 2 - 1, 32, mode="bilinear")
    weight = nn.Parameter(torch.randn(3, 3, 1, 1))
    values = []
    for _ in range(30):
        reconstructions = F.conv2d(images, weight)
        terms = loss.generator_step_gradients(images, reconstructions, weight, 0)
        (gradient,) = torch.autograd.grad(reconstructions, weight, terms.gradient)
        weight.data -= 0.1 * gradient / gradient.norm()
        values.append(terms.reconstruction_loss.item())
    assert values[-1] < 0.6 * values[0]


def test_config() -> None:
    config = LPIPSWithDiscriminatorConfig(disc_start=1000, perceptual=NoPerceptualConfig(), reduction="sum")
    assert from_dict(LPIPSWithDiscriminatorConfig, to_dict(config)) == config
    with pytest.raises(ValueError, match="disc_weight must not be negative: -1"):
        LPIPSWithDiscriminatorConfig(disc_start=0, disc_weight=-1.0)
