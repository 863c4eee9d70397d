import pytest
import torch
from torch import nn

from calotype.diffusion import Conditioning, Denoiser, Flow, Linear, map_x0


class Probe(nn.Module):
    """Remembers what it was called with; predicts zeros in its own dtype."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=dtype))
        self.seen: dict[str, object] = {}

    def forward(self, x, t, **slots):
        self.seen = {"x": x, "t": t, **slots}
        return self.weight * x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_network_computes_in_its_dtype_and_the_rest_in_float32(dtype):
    network = Probe(dtype)
    conditioning = Conditioning(vector=torch.randn(2, 3), label=torch.arange(2))
    denoiser = Denoiser(network, Flow(), "flow")
    inputs = torch.randn(2, 1, 2, 2), torch.tensor(0.25), conditioning
    got = denoiser(*inputs)
    assert network.seen["x"].dtype == network.seen["vector"].dtype == dtype
    assert network.seen["label"].dtype == torch.int64
    assert network.seen["t"].dtype == torch.promote_types(dtype, torch.float32)
    assert (
        got.x0.dtype == denoiser.output(*inputs).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    )
    assert set(network.seen) == {"x", "t", "vector", "label"}


def test_a_function_of_float64_images_is_told_the_exact_time():
    told = []

    def network(x, t):
        told.append(t)
        return x

    Denoiser(network, Linear(), "eps")(torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.tensor(1 / 3).double())
    assert told[0].dtype == torch.float64


def test_times_are_one_for_all_or_one_for_each():
    network = Probe()
    denoiser = Denoiser(network, Flow(), "flow")
    x = torch.randn(3, 1, 2, 2)
    denoiser(x, torch.tensor(0.5, dtype=torch.float64))
    assert network.seen["t"].tolist() == [500, 500, 500]
    one_by_one = denoiser(x, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    assert network.seen["t"].tolist() == [250, 500, 750]
    for row, t in enumerate((0.25, 0.5, 0.75)):
        alone = denoiser(x[row : row + 1], torch.tensor(t, dtype=torch.float64))
        torch.testing.assert_close(one_by_one.x0[row : row + 1], alone.x0)


def test_predicting_eps_from_pure_noise_is_refused():
    with pytest.raises(ValueError, match="prediction 'eps'"):
        Denoiser(Probe(), Flow(), "eps")
    Denoiser(Probe(), Linear(), "eps")


def test_conditioning_must_have_a_row_per_image():
    denoiser = Denoiser(Probe(), Flow(), "flow")
    with pytest.raises(ValueError, match=r"^label: 3 rows"):
        denoiser(torch.randn(2, 1, 2, 2), torch.tensor(0.5), Conditioning(label=torch.arange(3)))


def test_what_is_seen_of_the_image_can_be_changed_with_or_without_the_noise(gaussian, images):
    t, plain = torch.tensor(600.0, dtype=torch.float64), gaussian(Linear(), 0.7, 0.25)
    alpha, sigma = Linear().marginal(t, images)
    before = plain(images, t)
    follows = map_x0(plain, lambda x0: x0.clamp(-1, 0.7))(images, t)
    kept = map_x0(plain, lambda x0: x0.clamp(-1, 0.7), keep_eps=True)(images, t)
    assert torch.equal(follows.x0, before.x0.clamp(-1, 0.7))
    assert torch.equal(kept.x0, follows.x0)
    torch.testing.assert_close(alpha * follows.x0 + sigma * follows.eps, images)
    assert torch.equal(kept.eps, before.eps)


def test_another_direction_is_seen_through_all_the_same_changes(gaussian, images):
    t, plain = torch.tensor(600.0, dtype=torch.float64), gaussian(Linear(), 0.7, 0.25)
    alpha, sigma = Linear().marginal(t, images)
    twice = map_x0(map_x0(plain, lambda x0: x0.clamp(-1, 0.7), keep_eps=True), lambda x0: 2 * x0, keep_eps=True)
    eps = torch.full_like(images, 0.3)
    got = twice(images, t).with_eps(eps, images)
    assert torch.equal(got.eps, eps)
    torch.testing.assert_close(got.x0, 2 * ((images - sigma * eps) / alpha).clamp(-1, 0.7))
    torch.testing.assert_close(plain(images, t).with_eps(eps, images).x0, (images - sigma * eps) / alpha)
