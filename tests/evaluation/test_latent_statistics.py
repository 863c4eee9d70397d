import math

import pytest
import torch

from calotype.evaluation import CodeUse, LatentStatistics
from calotype.models.distributions import DiagonalGaussianDistribution, DiracDistribution, Posterior
from calotype.utils.seeds import generator


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator("latent statistics", *shape))


def summary(*posteriors: Posterior) -> dict:
    statistics = LatentStatistics()
    for posterior in posteriors:
        statistics.add(posterior)
    return statistics.summary()


def gaussian(mean: torch.Tensor, variance: torch.Tensor) -> DiagonalGaussianDistribution:
    return DiagonalGaussianDistribution(torch.cat([mean, variance.expand_as(mean).log()], dim=1))


def test_moments_by_channel_do_not_depend_on_batches() -> None:
    z = noise(7, 3, 4, 5) * torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1) + 100
    found = summary(DiracDistribution(z[:3]), DiracDistribution(z[3:]))
    assert found["shape"] == [3, 4, 5]
    assert found["n"] == 7
    values = z.double().transpose(0, 1).flatten(1)
    for row, channel in zip(found["channels"], values, strict=True):
        assert row["mean"] == pytest.approx(float(channel.mean()))
        assert row["std"] == pytest.approx(float(channel.std(correction=0)), rel=1e-6)
        assert (row["min"], row["max"]) == (float(channel.min()), float(channel.max()))
        assert "posterior_std" not in row
    expected = values.corrcoef()
    torch.testing.assert_close(torch.tensor(found["correlation"]["matrix"]).double(), expected, rtol=1e-5, atol=1e-6)
    off = (expected - torch.eye(3)).abs()
    assert found["correlation"]["largest"] == pytest.approx(float(off.max()), rel=1e-5)
    assert found["correlation"]["mean"] == pytest.approx(float(off.sum() / 6), rel=1e-5)
    assert "kl" not in found


def test_kl_is_in_nats_for_each_number_and_each_image() -> None:
    mean, variance = noise(4, 2, 3, 3), torch.full((1,), 0.25)
    kl = 0.5 * (mean.square() + 0.25 - 1 - math.log(0.25))
    found = summary(gaussian(mean[:1], variance), gaussian(mean[1:], variance))
    assert found["kl"]["per_number"] == pytest.approx(float(kl.mean()), rel=1e-5)
    assert found["kl"]["per_image"] == pytest.approx(float(kl.mean()) * 18, rel=1e-5)
    assert [row["posterior_std"] for row in found["channels"]] == pytest.approx([0.5, 0.5], rel=1e-5)


def test_channels_that_say_nothing_are_dead() -> None:
    mean = noise(16, 3, 4, 4) * torch.tensor([1.0, 0.05, 0.001]).view(3, 1, 1)
    prior_like = summary(gaussian(mean, torch.tensor([0.01, 1.0, 1e-8]).view(3, 1, 1)))
    assert [row["dead"] for row in prior_like["channels"]] == [False, True, False]  # small is not dead
    assert prior_like["dead_share"] == pytest.approx(1 / 3)
    points = summary(DiracDistribution(mean))
    assert [row["dead"] for row in points["channels"]] == [False, False, True]


def test_constant_channels_have_no_correlation() -> None:
    z = torch.cat([noise(3, 1, 4, 4), torch.full((3, 1, 4, 4), 0.3)], dim=1)
    found = summary(DiracDistribution(z))["correlation"]
    assert found["matrix"][0][0] == pytest.approx(1)
    assert found["matrix"][0][1] is None
    assert found["largest"] is None
    far = torch.full((9, 2, 16, 16), 1234.567)
    assert [row["std"] for row in summary(*map(DiracDistribution, far.split(4)))["channels"]] == [0, 0]
    same = summary(DiracDistribution(torch.cat([z[:, :1], -2 * z[:, :1]], dim=1)))["correlation"]
    assert same["largest"] == pytest.approx(1)


def test_code_use_counts_over_batches() -> None:
    use = CodeUse(8)
    use.add(torch.tensor([[0, 1], [1, 5]]))
    use.add(torch.tensor([5, 5, 5, 0]))
    entropy = -sum(p * math.log(p) for p in (2 / 8, 2 / 8, 4 / 8))
    found = use.summary()
    assert (found["codes"], found["used"], found["n"]) == (8, 3, 8)
    assert found["perplexity"] == pytest.approx(math.exp(entropy))
    assert found["bits"] == pytest.approx(entropy / math.log(2))


def test_more_codes_than_memory_are_counted() -> None:
    use = CodeUse(2**60)
    use.add(torch.tensor([2**59, 3, 3]))
    assert use.summary()["used"] == 2
    with pytest.raises(ValueError, match="no codes"):
        CodeUse(4).summary()
    with pytest.raises(ValueError, match="no latents"):
        LatentStatistics().summary()
