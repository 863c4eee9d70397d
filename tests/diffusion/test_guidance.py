import pytest
import torch

from calotype.diffusion import CFG, Autoguidance, Conditioning, Denoiser, Flow, Linear, dynamic_threshold
from calotype.utils.config import from_dict, to_dict

X = torch.linspace(-2, 2, 24, dtype=torch.float64).view(2, 3, 2, 2)
T = torch.tensor(300.0, dtype=torch.float64)
COND = Conditioning(vector=torch.tensor([[1.0], [2.0]], dtype=torch.float64))
NULL = Conditioning(vector=torch.zeros(2, 1, dtype=torch.float64))


class Counting:
    """A network that is nonlinear in its condition and counts the rows it is given."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, x, t, *, vector):
        self.calls.append(len(x))
        return torch.tanh(x * (1 + vector[:, :, None, None])) + t.to(x)[:, None, None, None] / 1000


def guided(scale: float, t: torch.Tensor = T):
    network = Counting()
    return CFG(scale)(Denoiser(network, Linear(), "eps"), COND, NULL)(X, t), network


def test_scale_one_is_the_condition_and_never_evaluates_the_null():
    got, network = guided(1.0)
    expected = Denoiser(Counting(), Linear(), "eps")(X, T, COND)
    assert torch.equal(got.x0, expected.x0)
    assert torch.equal(got.eps, expected.eps)
    assert network.calls == [2]


def test_scale_zero_is_the_null():
    got, network = guided(0.0)
    expected = Denoiser(Counting(), Linear(), "eps")(X, T, NULL)
    torch.testing.assert_close(got.x0, expected.x0, rtol=0, atol=1e-12)
    assert network.calls == [4]


@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0, 7.5])
@pytest.mark.parametrize("t", [T, torch.tensor([300.0, 650.0], dtype=torch.float64)])
def test_one_batched_pass_equals_two_and_guides_x0_and_eps_alike(scale, t):
    got, network = guided(scale, t)
    denoiser = Denoiser(Counting(), Linear(), "eps")
    cond, null = denoiser(X, t, COND), denoiser(X, t, NULL)
    torch.testing.assert_close(got.x0, null.x0 + scale * (cond.x0 - null.x0), rtol=0, atol=1e-12)
    torch.testing.assert_close(got.eps, null.eps + scale * (cond.eps - null.eps), rtol=0, atol=1e-12)
    torch.testing.assert_close(got.alpha * got.x0 + got.sigma * got.eps, X, rtol=0, atol=1e-12)
    assert network.calls == [4]


def test_guided_gaussians_follow_the_product_of_densities():
    """Scores add: the guided eps is that of p_cond^w p_uncond^(1-w), a Gaussian of known mean and variance."""
    w, schedule = 2.5, Linear()
    alpha, sigma = schedule.marginal(T, X)

    def network(x, t, *, vector):
        mean, variance = vector[:, :, None, None], 0.25 + 0.25 * vector[:, :, None, None]
        return sigma * (x - alpha * mean) / (alpha**2 * variance + sigma**2)

    cond = Conditioning(vector=torch.ones(2, 1, dtype=torch.float64))
    got = CFG(w)(Denoiser(network, schedule, "eps"), cond, NULL)(X, T)
    v1, v0 = alpha**2 * 0.5 + sigma**2, alpha**2 * 0.25 + sigma**2
    precision = w / v1 + (1 - w) / v0
    mean = w * alpha / v1 / precision
    torch.testing.assert_close(got.eps, sigma * (X - mean) * precision, rtol=0, atol=1e-12)


def test_a_dynamic_threshold_cuts_the_brightest_values_of_each_image():
    x0 = torch.stack([torch.linspace(-0.5, 0.5, 101), torch.linspace(-4.0, 4.0, 101)]).view(2, 1, 1, 101)
    got = dynamic_threshold(x0, quantile=0.5)
    assert torch.equal(got[0], x0[0]), "nothing is beyond 1"
    torch.testing.assert_close(got[1], (x0[1] / 2).clamp(-1, 1), rtol=0, atol=0.03)
    assert got.abs().max() == 1
    torch.testing.assert_close(dynamic_threshold(x0, least=8.0), x0 / 8)
    assert torch.equal(dynamic_threshold(got), got), "once is enough"


def test_guidance_is_affine_in_the_scale():
    one, two, three = (guided(scale)[0] for scale in (1.5, 2.5, 3.5))
    torch.testing.assert_close(two.x0 - one.x0, three.x0 - two.x0, rtol=0, atol=1e-12)


def level(t):
    return float((Linear().sigma(t) / Linear().alpha(t)).item())


def limited(interval, t=T, scale=3.0):
    network = Counting()
    return CFG(scale, interval=interval)(Denoiser(network, Linear(), "eps"), COND, NULL)(X, t), network


def test_outside_its_interval_guidance_is_the_condition_and_the_null_is_not_evaluated():
    at = level(T)
    expected, _ = guided(1.0)
    for interval in ((0.0, at * 0.99), (at, 100.0)):
        got, network = limited(interval)
        assert torch.equal(got.x0, expected.x0)
        assert torch.equal(got.eps, expected.eps)
        assert network.calls == [2]
    inside, network = limited((at * 0.99, at))
    assert torch.equal(inside.x0, guided(3.0)[0].x0)
    assert network.calls == [4]


def test_an_interval_holds_for_every_image_at_its_own_time():
    t = torch.tensor([300.0, 650.0], dtype=torch.float64)
    got, _ = limited((level(t[:1]), 100.0), t)
    off, on = guided(1.0, t)[0], guided(3.0, t)[0]
    assert torch.equal(got.x0[0], off.x0[0])
    torch.testing.assert_close(got.x0[1], on.x0[1], rtol=0, atol=1e-12)


def test_every_image_may_have_a_scale_of_its_own():
    got = CFG((0.0, 4.0))(Denoiser(Counting(), Linear(), "eps"), COND, NULL)(X, T)
    for row, scale in enumerate((0.0, 4.0)):
        torch.testing.assert_close(got.x0[row], guided(scale)[0].x0[row], rtol=0, atol=1e-12)
    network = Counting()
    CFG((1.0, 1.0))(Denoiser(network, Linear(), "eps"), COND, NULL)(X, T)
    assert network.calls == [2]
    assert CFG((1.0, 2.0, 3.0), rescale=0.5).rows(slice(1, 3)) == CFG((2.0, 3.0), rescale=0.5)
    assert CFG(2.0).rows(slice(1, 3)) == CFG(2.0)
    assert CFG([1.0, 1.0]) == CFG((1.0, 1.0))
    assert CFG([1.0, 1.0]).off
    with pytest.raises(ValueError, match="scale: 3 values for 2 images"):
        CFG((1.0, 2.0, 3.0))(Denoiser(Counting(), Linear(), "eps"), COND, NULL)(X, T)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_a_rescaled_prediction_has_the_deviation_of_the_conditional_one(share):
    """Eq. 15 and 16 of arXiv:2305.08891, in the space of the prediction; the estimate stays one of x_t."""
    schedule = Linear()
    alpha, sigma = schedule.marginal(T, X)

    def v(estimate):
        return alpha * estimate.eps - sigma * estimate.x0

    got, plain, cond = (
        CFG(scale, rescale=by)(Denoiser(Counting(), schedule, "v"), COND, NULL)(X, T)
        for scale, by in ((5.0, share), (5.0, 0.0), (1.0, 0.0))
    )
    ratio = v(cond).flatten(1).std(dim=1) / v(plain).flatten(1).std(dim=1)
    factor = (share * ratio + 1 - share).view(-1, 1, 1, 1)
    assert (ratio - 1).abs().min() > 0.1
    torch.testing.assert_close(v(got), v(plain) * factor, rtol=0, atol=1e-12)
    torch.testing.assert_close(alpha * got.x0 + sigma * got.eps, X, rtol=0, atol=1e-12)


def test_all_slots_are_guided_together():
    """A hybrid condition: tokens with a mask, a vector, a label and an image, each with its null."""

    def network(x, t, *, context, context_mask, vector, label, concat):
        assert len(x) == len(t) == len(label)
        tokens = (context * context_mask[:, :, None]).sum(dim=(1, 2))
        return torch.tanh(x + concat) * (1 + vector[:, 0] + tokens + label)[:, None, None, None]

    def condition(number):
        generator = torch.Generator().manual_seed(number)
        return Conditioning(
            context=torch.randn(2, 5, 3, generator=generator, dtype=torch.float64),
            context_mask=torch.rand(2, 5, generator=generator) > 0.3,
            vector=torch.randn(2, 1, generator=generator, dtype=torch.float64),
            label=torch.tensor([number, 2 * number]),
            concat=torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64),
        )

    cond, null, denoiser = condition(1), condition(2), Denoiser(network, Flow(), "flow")
    t = torch.tensor(0.4, dtype=torch.float64)
    got = CFG(2.5)(denoiser, cond, null)(X, t)
    one, other = denoiser(X, t, cond), denoiser(X, t, null)
    torch.testing.assert_close(got.x0, other.x0 + 2.5 * (one.x0 - other.x0), rtol=0, atol=1e-12)


def weak_and_strong():
    calls = []

    def denoiser(width):
        def network(x, t):
            calls.append(width)
            return torch.tanh(width * x)

        return Denoiser(network, Linear(), "eps").bind(Conditioning())

    return denoiser(1.0), denoiser(2.0), calls


def test_autoguidance_leads_away_from_the_weaker_model_without_any_condition():
    weak, strong, calls = weak_and_strong()
    got = Autoguidance(3.0)(strong, weak)(X, T)
    expected = weak(X, T).eps + 3 * (strong(X, T).eps - weak(X, T).eps)
    torch.testing.assert_close(got.eps, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(got.x0, weak(X, T).lerp(strong(X, T), 3.0).x0, rtol=0, atol=1e-12)
    calls.clear()
    for off in (Autoguidance(1.0), Autoguidance(3.0, interval=(level(T), 100.0))):
        assert torch.equal(off(strong, weak)(X, T).x0, strong(X, T).x0)
    assert 1.0 not in calls, "the weaker one is not evaluated"


@pytest.mark.parametrize(
    "guidance",
    [CFG(5.0), CFG((1.0, 2.0), interval=(0.2, 5.0), rescale=0.7), Autoguidance(2.0, interval=(0.0, 1.0))],
)
def test_config_round_trip(guidance):
    assert from_dict(type(guidance), to_dict(guidance)) == guidance


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: CFG(2.0, interval=(3.0, 1.0)), "interval"),
        (lambda: CFG(2.0, interval=(-1.0, 1.0)), "interval"),
        (lambda: CFG(2.0, rescale=1.5), "rescale"),
        (lambda: Autoguidance(2.0, interval=(1.0, 1.0)), "interval"),
    ],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()
