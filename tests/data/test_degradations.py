import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from calotype.data.degradations import BSRGAN, DEGRADATIONS, Bicubic, Degradation, Degradations
from calotype.data.degradations.blur import filtered, gaussian_kernel
from calotype.data.degradations.jpeg import jpeg
from calotype.data.degradations.noise import add_noise, covariance_root
from calotype.utils.config import from_dict, to_dict
from calotype.utils.seeds import generator, python_random


def picture(channels: int = 3, height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    """Smooth and within the range."""
    coarse = torch.randn(1, channels, 3, 4, generator=generator("picture", seed))
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0].mul(0.3).clamp(-0.9, 0.9)


def degraded(degradation: Degradation, count: int, image: torch.Tensor, factor: int = 4) -> torch.Tensor:
    return torch.stack([degradation.degrade(image, factor, generator("degraded", seed)) for seed in range(count)])


@pytest.mark.parametrize(("variances", "angle"), [((4.0, 4.0), 0.0), ((6.0, 1.5), 0.0), ((6.0, 1.5), 0.7)])
def test_a_kernel_has_the_covariance_asked_for(variances, angle):
    """All but what lies beyond three standard deviations, which holds 2.7 % of the variance along each axis."""
    kernel = gaussian_kernel(variances, angle).double()
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(kernel, kernel.flip(0, 1))
    steps = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    found = torch.tensor([[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)])
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    wanted = turn @ torch.diag(torch.tensor(variances)).double() @ turn.T
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=0.03 * max(variances))


def test_no_width_is_no_blur():
    assert gaussian_kernel((0.0, 0.0)).tolist() == [[1.0]]


@pytest.mark.parametrize("size", [(20, 30), (7, 3), (1, 5), (1, 1)])
def test_filtering_is_scipys_in_a_mirror(size):
    """Also where the kernel is wider than the image."""
    image, kernel = torch.rand(2, *size, generator=generator(0)), gaussian_kernel((5.0, 1.0), 0.4)
    wanted = np.stack([ndimage.convolve(channel, kernel.numpy(), mode="mirror") for channel in image.numpy()])
    np.testing.assert_allclose(filtered(image, kernel), wanted, atol=1e-5)


def test_noise_has_its_level_and_its_kinds_their_proportion():
    image, level, source = torch.zeros(3, 24, 24), 0.1, generator("noise")
    draws = torch.stack([add_noise(image, level, 0.3, python_random(source), source) for _ in range(600)])
    grey = (draws[:, :1] == draws).flatten(1).all(dim=1)
    spread = draws.std(dim=(2, 3))
    each = ~grey & ((spread - level).abs() < 0.02).all(dim=1)
    assert draws[grey].std() == pytest.approx(level, rel=0.01)
    assert draws[each].std() == pytest.approx(level, rel=0.01)
    assert grey.float().mean() == pytest.approx(0.4, abs=0.08)
    assert each.float().mean() == pytest.approx(0.4, abs=0.08)
    assert spread.max() < 0.3 * 1.1
    one = add_noise(torch.zeros(1, 64, 64), level, 0.3, python_random(source), source)
    assert one.std() == pytest.approx(level, rel=0.05)


def test_the_covariance_between_channels_has_any_direction_and_at_most_the_highest_level():
    source = generator("covariance")
    roots = torch.stack([covariance_root(3, source) for _ in range(4000)])
    covariances = roots @ roots.mT
    values = torch.linalg.eigvalsh(covariances)
    assert values.min() > -1e-6
    assert values.max() <= 1 + 1e-6
    torch.testing.assert_close(covariances.mean(0), 0.5 * torch.eye(3), rtol=0, atol=0.02)


def test_jpeg_is_pillows_for_colours_and_channel_by_channel_for_others():
    image = picture()
    pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=40)
    wanted = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(jpeg(image, 40), wanted)
    five = picture(5)
    torch.testing.assert_close(jpeg(five, 40), torch.cat([jpeg(channel[None], 40) for channel in five]))


def test_less_quality_is_further_from_the_image():
    image = picture()
    errors = [(jpeg(image, quality) - image).square().mean() for quality in (10, 30, 60, 95)]
    assert errors == sorted(errors, reverse=True), errors
    assert errors[-1] < 1e-3


def test_bicubic_is_pillows():
    image = picture(2, 48, 60)
    wanted = [Image.fromarray(channel.numpy()).resize((15, 12), Image.Resampling.BICUBIC) for channel in image]
    found = Bicubic().degrade(image, 4, generator(0))
    np.testing.assert_allclose(found, np.stack([np.asarray(each) for each in wanted]), atol=1e-5)


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize(("channels", "height", "width", "factor"), [(3, 48, 64, 4), (1, 37, 50, 3), (5, 9, 8, 8)])
def test_sizes_channels_and_range(name, channels, height, width, factor):
    """Resizing to the small image's size must come after any other, so every order shows here."""
    found = degraded(DEGRADATIONS[name], 20, picture(channels, height, width), factor)
    assert found.shape == (20, channels, height // factor, width // factor)
    assert found.isfinite().all()
    assert found.abs().max() <= 1


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_what_is_beyond_a_multiple_of_the_factor_is_left_out_at_the_bottom_and_the_right(name):
    """An image that is not square, where the reference goes wrong."""
    image = picture(3, 34, 63)
    expected = DEGRADATIONS[name].degrade(image[:, :32, :60], 4, generator(3))
    assert torch.equal(DEGRADATIONS[name].degrade(image, 4, generator(3)), expected)


@pytest.mark.parametrize("name", ["bsrgan", "bsrgan-light"])
def test_the_result_depends_on_the_state_of_the_generator_alone(name):
    first, again = (degraded(DEGRADATIONS[name], 8, picture()) for _ in range(2))
    assert torch.equal(first, again)
    assert len({tuple(image.flatten().tolist()) for image in first}) == 8


def test_noise_levels_are_of_255():
    """At most as asked, as resizes after it lessen it, and just so where none comes after it."""
    level, grey = 2 * 20 / 255, torch.zeros(1, 32, 32)
    found = degraded(BSRGAN(blurs=0, noise=(20, 20), jpeg=(100, 100)), 30, grey, factor=1).std(dim=(1, 2, 3))
    assert found.max() == pytest.approx(level, rel=0.15)
    assert (found > 0.85 * level).float().mean() > 0.2


def test_full_is_worse_than_light_and_light_than_bicubic_and_all_keep_the_mean():
    clean = Bicubic().degrade(picture(), 4, generator(0))
    distance = {}
    for name, degradation in DEGRADATIONS.items():
        found = degraded(degradation, 40, picture())
        distance[name] = float((found - clean).square().mean())
        assert float((found.mean((0, 2, 3)) - picture().mean((1, 2))).abs().max()) < 0.02, name
    assert distance["bsrgan"] > 4 * distance["bsrgan-light"] > 4 * distance["bicubic"] == 0


def test_mistakes_and_the_way_to_a_file_and_back():
    for degradation in DEGRADATIONS.values():
        assert from_dict(Degradations, to_dict(degradation)) == degradation
    with pytest.raises(ValueError, match="factor must be at least 1 and at most the image's sides, 64 x 3, not 4"):
        Bicubic().degrade(picture(3, 3), 4, generator(0))
    for wrong, message in (({"blurs": -1}, "blurs"), ({"noise": (9, 2)}, "noise"), ({"jpeg": (0, 50)}, "jpeg")):
        with pytest.raises(ValueError, match=message):
            BSRGAN(**wrong)
