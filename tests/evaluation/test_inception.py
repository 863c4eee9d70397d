"""The network of FID without its weights: keys, shapes and, on weights anyone can make, torch-fidelity's numbers."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from calotype.evaluation import InceptionFeatures
from calotype.evaluation.inception import InceptionV3
from calotype.evaluation.inception_features import resize_like_tensorflow_1
from calotype.utils.errors import UserError


def made_up(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values of numpy's frozen legacy generator, of a size that keeps activations in bounds."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    values = random.standard_normal(shape)
    if name.endswith("running_var"):
        values = 0.75 + 0.5 * random.uniform(size=shape)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * values
    elif name.endswith("bn.weight"):
        values = 1 + 0.1 * values
    else:
        values = values * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    shapes = {name: tuple(value.shape) for name, value in InceptionV3().state_dict().items()}
    counters = {name: shape for name, shape in shapes.items() if name.endswith("num_batches_tracked")}
    torch.save({name: made_up(name, shape) for name, shape in shapes.items() if name not in counters}, path)
    return path


@pytest.fixture(scope="module")
def network(weights: Path) -> InceptionFeatures:
    return InceptionFeatures(weights)


def test_features_are_those_of_torch_fidelity(network: InceptionFeatures) -> None:
    # What FeatureExtractorInceptionV3 of torch-fidelity 0.4.0 says of this image with these weights.
    expected = [0.00153, 1.1471, 0.23958, 0.05515, 0.52042, 0.04135, 0.04304, 0.00377]
    y, x = torch.meshgrid(torch.arange(40), torch.arange(56), indexing="ij")
    levels = torch.stack([(3 * x + 2 * y) % 256, (x * y) % 256, (5 * (x // 7) + 40 * (y // 5)) % 256])
    (features,) = network(levels[None] / 127.5 - 1)
    assert features.shape == (2048,)
    assert features[::256].tolist() == pytest.approx(expected, abs=2e-5)
    assert float(features.mean()) == pytest.approx(0.51817387, abs=1e-6)


def test_images_are_rounded_to_8_bits_and_clipped(network: InceptionFeatures) -> None:
    levels = torch.tensor([[0.0, 255.0, 17.0], [100.0, 128.0, 3.0]]).expand(1, 3, 2, 3)
    between = levels / 127.5 - 1 + torch.tensor([-1.0, 1.0, 0.0031])  # 0.0031 is 0.4 of a level
    assert torch.equal(
        network(between), network(torch.tensor([[0, 255, 17], [0, 255, 3]]).expand(1, 3, 2, 3) / 127.5 - 1)
    )


def test_keys_and_shapes_are_those_of_the_published_file() -> None:
    shapes = {name: tuple(value.shape) for name, value in InceptionV3().state_dict().items()}
    assert len(shapes) == 566
    assert sum(np.prod(shape, dtype=int) for name, shape in shapes.items() if "tracked" not in name) == 23_885_392
    assert shapes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert shapes["Mixed_5b.branch5x5_2.conv.weight"] == (64, 48, 5, 5)
    assert shapes["Mixed_6a.branch3x3.conv.weight"] == (384, 288, 3, 3)
    assert shapes["Mixed_6d.branch7x7dbl_5.conv.weight"] == (192, 160, 1, 7)
    assert shapes["Mixed_7a.branch7x7x3_4.bn.running_mean"] == (192,)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["fc.weight"] == (1008, 2048)


def test_resizing_is_that_of_tensorflow_1() -> None:
    ramp = torch.tensor([0.0, 10.0, 40.0]).expand(1, 1, 3, 3)
    assert resize_like_tensorflow_1(ramp, 6)[0, 0, 0].tolist() == [0, 5, 10, 25, 40, 40]  # not at pixel centres
    wide = torch.arange(8.0).expand(1, 1, 2, 8)
    assert resize_like_tensorflow_1(wide, 4)[0, 0, 0].tolist() == [0, 2, 4, 6]  # nothing is averaged
    assert torch.equal(resize_like_tensorflow_1(wide.mT, 4), resize_like_tensorflow_1(wide, 4).mT)


def test_only_the_published_weights_are_of_fid(
    network: InceptionFeatures, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not network.is_of_fid
    assert network.short_name == f"Inception({network.sha256[:8]})"
    assert "other weights than the published ones" in network.protocol
    monkeypatch.setattr("calotype.evaluation.inception_features.PUBLISHED", network.sha256[:8])
    published = InceptionFeatures(weights)
    assert published.is_of_fid
    assert published.short_name == "Inception"


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not exist"):
        InceptionFeatures(tmp_path / "nowhere.pth")
    torch.save({"fc.weight": torch.zeros(1000, 2048), "AuxLogits.fc.bias": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(
        UserError, match=r"other.pth does not hold the weights of FID's Inception network: see Conv2d_1a"
    ):
        InceptionFeatures(tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        InceptionFeatures(tmp_path / "broken.pth")
