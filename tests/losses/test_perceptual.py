import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import skimage.data
import skimage.filters
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from calotype.losses.feature_distance import FeatureDistance
from calotype.losses.perceptual import (
    NoPerceptualConfig,
    PerceptualConfig,
    SqueezeNetPerceptualConfig,
    VGG16PerceptualConfig,
)
from calotype.losses.squeezenet import find_weights, read_weights
from calotype.losses.vgg import LPIPS
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError


@pytest.fixture(scope="module")
def squeezenet() -> FeatureDistance:
    return SqueezeNetPerceptualConfig().build()


def photograph(name: str, size: int, blur: float = 0.0) -> Tensor:
    """The middle square of one of scikit-image's photographs, in [-1, 1]."""
    pixels = getattr(skimage.data, name)() / 255.0
    if blur:
        pixels = skimage.filters.gaussian(pixels, blur, channel_axis=-1)
    image = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
    height, width = image.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[:, :, top : top + side, left : left + side]
    return 2 * F.interpolate(square, (size, size), mode="bilinear", antialias=True) - 1


@pytest.mark.parametrize(("name", "classes"), [("chelsea", range(281, 286)), ("coffee", (967,))])
def test_squeezenet_knows_a_cat_and_an_espresso(squeezenet: FeatureDistance, name: str, classes: range) -> None:
    kernel, bias = read_weights(find_weights())["conv10"]

    def probability(image: Tensor) -> float:
        last = squeezenet.taps(image)[-1]
        logits = F.conv2d(last, kernel.permute(3, 2, 0, 1), bias).mean(dim=(2, 3))
        return logits.softmax(dim=1)[0, list(classes)].sum().item()

    image = photograph(name, 227)
    assert probability(image) > 0.95
    assert probability(image.flip(1)) < probability(image), "red and blue are in their places"


def test_blur_is_far_and_strong_blur_farther(squeezenet: FeatureDistance) -> None:
    sharp = photograph("astronaut", 64)
    distances = [squeezenet(sharp, photograph("astronaut", 64, blur)).item() for blur in (0, 3, 6, 12)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert len(set(distances)) == 4
    assert distances[3] > 0.1, "of the size of LPIPS"
    features = zip(squeezenet.taps(sharp), squeezenet.taps(photograph("rocket", 64)), strict=True)
    cosines = [F.cosine_similarity(a, b, dim=1).mean() for a, b in features]
    torch.testing.assert_close(squeezenet(sharp, photograph("rocket", 64)).squeeze(), 1 - sum(cosines) / 7)


def test_of_two_images_equally_far_in_pixels_the_blurred_one_is_worse(squeezenet: FeatureDistance) -> None:
    sharp = photograph("astronaut", 64)
    blurred = photograph("astronaut", 64, 8)
    dimmed = sharp - (sharp - blurred).square().mean().sqrt()
    assert squeezenet(sharp, dimmed) < 0.5 * squeezenet(sharp, blurred)


def test_gradient_reaches_the_reconstruction_alone(squeezenet: FeatureDistance) -> None:
    x, y = photograph("coffee", 48).requires_grad_(), photograph("coffee", 48, 4).requires_grad_()
    squeezenet(x, y).sum().backward()
    assert x.grad is None
    assert torch.isfinite(y.grad).all()
    assert y.grad.any()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in squeezenet.parameters())
    with torch.no_grad():
        nearer = y - 0.1 * y.grad / y.grad.norm()
    assert squeezenet(x, nearer) < squeezenet(x, y)


def test_features_without_activation_give_finite_gradients(squeezenet: FeatureDistance) -> None:
    y = torch.zeros(1, 3, 32, 32, requires_grad=True)
    broken = LPIPS()
    torch.nn.init.constant_(broken.net.slice1.get_submodule("2").bias, -100.0)
    broken.freeze()
    broken(torch.ones(1, 3, 32, 32), y).sum().backward()
    assert torch.isfinite(y.grad).all()


def test_grey_small_and_half_precision_images(squeezenet: FeatureDistance) -> None:
    x, y = photograph("chelsea", 64), photograph("chelsea", 64, 5)
    grey_x, grey_y = x[:, :1], y[:, :1]
    torch.testing.assert_close(
        squeezenet(grey_x, grey_y), squeezenet(grey_x.repeat(1, 3, 1, 1), grey_y.repeat(1, 3, 1, 1))
    )
    small_x, small_y = x[:, :, ::4, ::4], y[:, :, ::4, ::4]
    doubled = [F.interpolate(image, scale_factor=2, mode="bilinear") for image in (small_x, small_y)]
    torch.testing.assert_close(squeezenet(small_x, small_y), squeezenet(*doubled))
    exact = squeezenet(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        rough = squeezenet(x, y)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0)
    with pytest.raises(UserError, match="1 or 3 channels, not 4: choose the perceptual kind 'projected'"):
        squeezenet(torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32))


def test_vgg_takes_images_as_small_as_its_pooling_allows() -> None:
    lpips = LPIPS()
    x, y = photograph("chelsea", 16), photograph("chelsea", 16, 5)
    assert lpips.taps(x)[-1].shape[2:] == (1, 1)
    levels = zip(lpips.taps(x), lpips.taps(y), strict=True)
    cosines = torch.stack([F.cosine_similarity(ours, theirs).mean() for ours, theirs in levels])
    torch.testing.assert_close(lpips(x, y).squeeze(), (1 - cosines).mean(), rtol=1e-4, atol=1e-6)
    doubled = [F.interpolate(image[:, :, ::2, ::2], scale_factor=2, mode="bilinear") for image in (x, y)]
    torch.testing.assert_close(lpips(x[:, :, ::2, ::2], y[:, :, ::2, ::2]), lpips(*doubled))


def test_training_mode_changes_nothing(squeezenet: FeatureDistance) -> None:
    x, y = photograph("coffee", 32), photograph("coffee", 32, 4)
    before = squeezenet(x, y)
    assert not squeezenet.train().training
    assert torch.equal(squeezenet(x, y), before)
    lpips = LPIPS()
    lpips.freeze()
    assert not any(module.training for module in lpips.train().modules())


class MakesFolder:
    """Unpickled by an unrestricted reader, it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return (os.mkdir, (str(self.path),))


def pickled(layers: object) -> bytes:
    return pickle.dumps(layers, protocol=3)


def bad_weights(name: str, folder: Path) -> bytes:
    layers = {layer: [kernel.numpy(), bias.numpy()] for layer, (kernel, bias) in read_weights(find_weights()).items()}
    kernel, bias = layers["conv1"]
    return {
        "call": pickled({"conv1": MakesFolder(folder)}),
        "allocation": b"cnumpy\nndarray\n((L1000000000000L\nttR.",
        "objects": pickled(layers | {"conv1": [kernel.astype(object), bias]}),
        "doubles": pickled(layers | {"conv1": [kernel.astype(float), bias]}),
        "missing": pickled({"conv1": layers["conv1"]}),
        "misshapen": pickled(layers | {"conv1": [kernel[:2], bias]}),
        "large": pickled(layers) + bytes(16 * 2**20),
        "empty": b"",
    }[name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("call", "it asks for posix.mkdir"),
        ("allocation", "not callable"),
        ("objects", "numbers of type 'O8', not float32"),
        ("doubles", "numbers of type 'f8', not float32"),
        ("missing", "other layers or shapes"),
        ("misshapen", "other layers or shapes"),
        ("large", "larger than"),
        ("empty", "ran out of input|Ran out of input"),
    ],
)
def test_hostile_or_wrong_weights_are_refused(name: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(bad_weights(name, tmp_path / "made"))
    with pytest.raises(UserError, match=f"does not hold the SqueezeNet weights .*({reason})"):
        read_weights(path)
    assert not (tmp_path / "made").exists()


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'calotype\[perceptual\]'"):
        SqueezeNetPerceptualConfig().build()


@pytest.fixture(scope="module")
def vgg_state() -> dict[str, Tensor]:
    return LPIPS().state_dict()


def test_vgg_keys_are_the_references(vgg_state: dict[str, Tensor]) -> None:
    convolutions = {
        "slice1": (0, 2),
        "slice2": (5, 7),
        "slice3": (10, 12, 14),
        "slice4": (17, 19, 21),
        "slice5": (24, 26, 28),
    }
    expected = {f"net.{s}.{n}.{p}" for s, numbers in convolutions.items() for n in numbers for p in ("weight", "bias")}
    expected |= {f"lin{level}.model.1.weight" for level in range(5)} | {"scaling_layer.shift", "scaling_layer.scale"}
    assert set(vgg_state) == expected
    assert [vgg_state[f"lin{level}.model.1.weight"].shape for level in range(5)] == [
        (1, channels, 1, 1) for channels in (64, 128, 256, 512, 512)
    ]


def test_vgg_loads_lpips_and_torchvision_files(vgg_state: dict[str, Tensor], tmp_path: Path, caplog) -> None:
    x, y = torch.rand(2, 1, 3, 32, 32)
    direct = LPIPS()
    direct.load_state_dict(vgg_state)
    save_file(vgg_state, tmp_path / "lpips.safetensors")
    network = {name: tensor for name, tensor in vgg_state.items() if name.startswith("net.")}
    torch.save(
        {f"features.{name.split('.', 2)[2]}": tensor for name, tensor in network.items()}, tmp_path / "vgg16.pth"
    )
    heads = {name: 2 * tensor for name, tensor in vgg_state.items() if name.startswith("lin")}
    torch.save(heads, tmp_path / "heads.pth")

    loaded = VGG16PerceptualConfig(weights=str(tmp_path / "lpips.safetensors")).build()
    assert torch.equal(loaded(x, y), direct(x, y))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    vgg16 = str(tmp_path / "vgg16.pth")
    with_heads = VGG16PerceptualConfig(weights=vgg16, heads=str(tmp_path / "heads.pth")).build()
    torch.testing.assert_close(with_heads(x, y), 2 * direct(x, y))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        plain = VGG16PerceptualConfig(weights=vgg16).build()
    assert "every channel weighs the same" in caplog.text
    torch.testing.assert_close(plain(x, y), direct(x, y))


def test_vgg_mistakes_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set weights to a file .* or download=True"):
        VGG16PerceptualConfig().build()
    with pytest.raises(UserError, match="do not exist"):
        VGG16PerceptualConfig(weights=str(tmp_path / "none.pth")).build()
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"missing or misshapen: net\.slice1\.0\.bias, net\.slice1\.2\.weight"):
        VGG16PerceptualConfig(weights=str(tmp_path / "part.pth")).build()
    torch.save(MakesFolder(tmp_path / "made"), tmp_path / "evil.pth")
    with pytest.raises(UserError, match="cannot be read"):
        VGG16PerceptualConfig(weights=str(tmp_path / "evil.pth")).build()
    assert not (tmp_path / "made").exists()


def test_the_download_happens_only_when_asked(vgg_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    class Weights:
        @staticmethod
        def get_state_dict(**options: object) -> dict[str, Tensor]:
            asked.update(options)
            return vgg_state

    models = ModuleType("torchvision.models")
    models.VGG16_Weights = SimpleNamespace(IMAGENET1K_V1=Weights)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    with pytest.raises(UserError):
        VGG16PerceptualConfig().build()
    assert asked == {}
    VGG16PerceptualConfig(download=True).build()
    assert asked == {"weights_only": True, "check_hash": True}


def test_the_download_without_torchvision_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UserError, match="needs a working torchvision"):
        VGG16PerceptualConfig(download=True).build()


def test_no_perceptual_loss_takes_any_channels() -> None:
    x = torch.rand(2, 7, 8, 8, dtype=torch.bfloat16)
    distance = NoPerceptualConfig().build()(x, x)
    assert distance.dtype == torch.float32
    assert torch.equal(distance, torch.zeros(2, 1, 1, 1))


@pytest.mark.parametrize(
    "config", [VGG16PerceptualConfig(weights="a.pth"), SqueezeNetPerceptualConfig(), NoPerceptualConfig()]
)
def test_configs_round_trip_by_their_tag(config: PerceptualConfig) -> None:
    assert from_dict(PerceptualConfig, to_dict(config)) == config
