"""The linear map from latents to colours: exact where there is one, least squares where there is none."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

import calotype as ct
from calotype.artifact import read_artifact, write_artifact
from calotype.models.autoencoder import Autoencoder
from calotype.models.distributions import DiracDistribution
from calotype.models.latent_rgb import LatentToRGB
from calotype.training.encode import latent_statistics
from calotype.training.latent_rgb import latent_to_rgb
from calotype.utils.config import from_dict, to_dict
from tiny import AUTOENCODER, loader


class Linear(Autoencoder):
    """Latents that are ``matrix @ colour + 0.3``, of 4 x 4 pixels each."""

    factor = 4

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(len(matrix))
        self.matrix = matrix

    def encode(self, images: Tensor) -> DiracDistribution:
        return DiracDistribution(torch.einsum("cd,bdhw->bchw", self.matrix, F.avg_pool2d(images, 4)) + 0.3)

    def decode(self, z: Tensor) -> Tensor:
        raise NotImplementedError


MATRIX = torch.tensor([[1.0, 0.5, -0.2], [0.0, 2.0, 0.3], [0.4, 0.0, -1.0]])
REDUNDANT = torch.cat([MATRIX, MATRIX[:1] - MATRIX[1:2], torch.zeros(1, 3)])


@pytest.mark.parametrize("matrix", [MATRIX, REDUNDANT])
def test_a_linear_autoencoder_is_seen_through(matrix: Tensor) -> None:
    model = Linear(matrix)
    shift, scale = latent_statistics(model, loader())
    found = latent_to_rgb(model, loader(), shift=shift, scale=[min(each, 10.0) for each in scale])
    model.set_latent_statistics(shift, [min(each, 10.0) for each in scale])
    images = loader(6, first=50).at(range(6)).images
    colours = found(model.normalise(model.encode(images).mode()))
    torch.testing.assert_close(colours, F.avg_pool2d(images, 4), atol=1e-5, rtol=0)


def test_its_weights_are_the_inverse() -> None:
    found = latent_to_rgb(Linear(MATRIX), loader(), shift=[0.1, 0.2, 0.3], scale=[1.0, 2.0, 4.0])
    inverse = MATRIX.double().inverse()
    expected = inverse / torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(torch.tensor(found.weight).double(), expected, atol=1e-5, rtol=0)
    bias = inverse @ torch.tensor([-0.2, -0.1, 0.0], dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(found.bias).double(), bias, atol=1e-5, rtol=0)


def test_elsewhere_it_is_least_squares() -> None:
    torch.manual_seed(0)
    model, images = AUTOENCODER.build(), loader(70).at(range(64)).images
    shift, scale = latent_statistics(model, loader(70), limit=64)
    found = latent_to_rgb(model, loader(70), shift=shift, scale=scale, limit=64)
    model.set_latent_statistics(shift, scale)
    with torch.no_grad():
        z = rearrange(model.normalise(model.encode(images).mode()), "b c h w -> (b h w) c")
    colours = rearrange(F.avg_pool2d(images, 2), "b c h w -> (b h w) c")
    best = torch.linalg.lstsq(F.pad(z, (0, 1), value=1.0).double(), colours.double()).solution.T
    torch.testing.assert_close(torch.tensor(found.weight).double(), best[:, :-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.tensor(found.bias).double(), best[:, -1], atol=1e-4, rtol=1e-4)
    every = latent_to_rgb(model, loader(70), shift=shift, scale=scale)
    assert every != found, "all 70 images count where there is no limit"


def test_it_is_kept_with_the_autoencoder(encoded: Path, tmp_path: Path) -> None:
    artifact = read_artifact(encoded)
    rgb = LatentToRGB(weight=((1.0, 2.0, 3.0, 4.0), (0.0, 0.0, 0.0, 0.1), (-1.0, 0.5, 0.0, 0.0)), bias=(0.1, 0.2, 0.3))
    config = {**artifact.config, "latent": {**artifact.config["latent"], "rgb": to_dict(rgb)}}
    components = {"autoencoder": artifact.weights("autoencoder")}
    write_artifact(tmp_path / "ae", kind="autoencoder", config=config, components=components, provenance={})
    assert ct.load(encoded).rgb is None
    assert ct.load(tmp_path / "ae").rgb == rgb
    z = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(rgb(z)[1, 0, 2, 4], 0.1 + (z[1, :, 2, 4] * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum())


@pytest.mark.parametrize("weight", [((1.0,), (1.0, 2.0)), ((1.0,),)])
def test_rows_must_fit(weight: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ct.UserError, match="weight must be 2 rows of equal length"):
        from_dict(LatentToRGB, {"weight": weight, "bias": (0.0, 0.0)})
