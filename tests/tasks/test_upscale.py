import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from calotype.conditioner import ConditionerConfig, LowResolutionConfig, PassThroughConfig
from calotype.data.pixel_format import PixelFormat
from calotype.diffusion import DDIM, Flow
from calotype.models.autoencoder import IdentityAutoencoderConfig
from calotype.models.unet import UNet, UNetConfig
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.tasks import windows
from calotype.tasks.tile import Tiling
from calotype.tasks.upscale import upscale, upscaling_factor
from calotype.utils.errors import UserError
from calotype.utils.mirror import mirrored

EMBEDDER = LowResolutionConfig(factor=4, autoencoder_factor=2)


def smooth(height: int, width: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 3, 3, generator=generator) * 1.6 - 0.8
    return F.interpolate(coarse, (height, width), mode="bilinear")


class Condition(UNet):
    """A network that answers with the image that it is conditioned on."""

    def __init__(self) -> None:
        super().__init__(UNetConfig(in_channels=6, out_channels=3, channels=32, channel_multipliers=(1, 1)))
        self.sizes: set[tuple[int, ...]] = set()

    def forward(self, x: Tensor, t: Tensor, *, concat: Tensor) -> Tensor:
        self.sizes.add(tuple(x.shape[2:]))
        return concat


def model_of(network: UNet) -> LatentDiffusion:
    """Pixel space, enlarging by 4, predicting the clean image."""
    embedder = LowResolutionConfig(factor=4, autoencoder_factor=1)
    return LatentDiffusion(
        autoencoder=TrainedAutoencoder(IdentityAutoencoderConfig().build(), PixelFormat(), 16),
        conditioner=ConditionerConfig(embedders=(embedder,)).build(),
        network=network,
        schedule=Flow(),
        prediction="x0",
    )


@pytest.mark.parametrize("size", [(9, 13), (1, 1), (3, 30), (40, 7)])
def test_a_network_that_knows_the_answer_gives_it_at_every_size(size: tuple[int, int]) -> None:
    """Exactly, whatever the windows; an image that is smaller than those of training goes on as in a mirror."""
    network, images = Condition(), smooth(*size, count=2)
    large = upscale(model_of(network), images, seeds=[1, 2], steps=3)
    rows, columns = (mirrored(length, after=max(0, 4 - length)) for length in size)
    wanted = F.interpolate(images[:, :, rows][:, :, :, columns], scale_factor=4, mode="bicubic", antialias=True)
    assert network.sizes == {(16, 16)}
    torch.testing.assert_close(large, wanted.clamp(-1, 1)[:, :, : 4 * size[0], : 4 * size[1]], rtol=0, atol=1e-5)


class Mood(Condition):
    """Answers every window with a grey of its own, as networks do that see all of a window at once."""

    def forward(self, x: Tensor, t: Tensor, *, concat: Tensor) -> Tensor:
        return concat + 4 * x.mean(dim=(1, 2, 3), keepdim=True)


def test_there_are_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where windows disagree the image goes over from one to the next; of windows side by side it would jump."""

    def largest_step_and_spread() -> tuple[float, float]:
        image = upscale(model_of(Mood()), torch.zeros(1, 3, 12, 40), seeds=[1], steps=1)[0, 0]
        steps = [(image.diff(dim=axis)).abs().max() for axis in (0, 1)]
        return float(max(steps)), float(image.max() - image.min())

    step, spread = largest_step_and_spread()
    assert 0 < step < 0.2 * spread
    monkeypatch.setattr(windows, "Tiling", lambda size, stride, distance: Tiling(size=size, stride=size))
    step, spread = largest_step_and_spread()
    assert step > 0.5 * spread


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return tiny.conditioned_model(EMBEDDER)


def test_an_image_depends_on_its_own_seed_and_its_own_pixels(model: LatentDiffusion) -> None:
    images = torch.stack([*smooth(5, 6), -smooth(5, 6)[0]])
    first = upscale(model, images, seeds=[1, 2], steps=2)
    assert first.shape == (2, 3, 20, 24)
    alone = upscale(model, images[1:], seeds=[2], steps=2)
    torch.testing.assert_close(alone, first[1:], rtol=0, atol=1e-4)
    for other in (upscale(model, images, seeds=[3, 4], steps=2), upscale(model, -images, seeds=[1, 2], steps=2)):
        assert (other - first).abs().mean() > 0.01


def test_the_whole_is_the_pipelines_own_where_it_is_no_larger_than_in_training(model: LatentDiffusion) -> None:
    images, options = smooth(4, 4, count=2), {"seeds": [1, 2], "steps": 3, "solver": DDIM()}
    expected = model.sample(low_resolution=list(images), size=16, **options)
    assert torch.equal(upscale(model, images, **options), expected)


def test_the_reference_enlarges_by_the_factor_of_its_autoencoder() -> None:
    embedder = PassThroughConfig(field="low_resolution", slot="concat", channels=3, null="none")
    model = tiny.conditioned_model(embedder)
    assert upscaling_factor(model) == model.autoencoder.factor == 2
    assert upscale(model, smooth(9, 7), seeds=[1], steps=1).shape == (1, 3, 18, 14)


def test_mistakes_are_told_in_one_line(model: LatentDiffusion) -> None:
    with pytest.raises(UserError, match="this model enlarges nothing"):
        upscale(tiny.conditioned_model(), smooth(4, 4), seeds=[1])
    huge = torch.zeros(1, 1, 1, 1).expand(1, 3, 4000, 4000)
    with pytest.raises(UserError, match="the result would be 16000 x 16000 pixels, and 100,000,000 is the most"):
        upscale(model, huge, seeds=[1])
    with pytest.raises(UserError, match="low_resolution: give a list with one value per seed, 2 of them"):
        upscale(model, smooth(4, 4), seeds=[1, 2])
