import builtins
from typing import Any

import pytest
import torch

from calotype.encoders import EfficientNetLite0Features
from calotype.utils.errors import UserError
from calotype.utils.seeds import generator


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0Features:
    return EfficientNetLite0Features(size=64, chunk=2)


def images(channels: int = 3) -> torch.Tensor:
    return torch.rand(5, channels, 24, 32, generator=generator("features", channels)) * 2 - 1


def test_features_do_not_depend_on_batch_or_chunk(network: EfficientNetLite0Features) -> None:
    whole = network(images())
    assert whole.shape == (5, 1280)
    assert whole.dtype == torch.float32
    assert not whole.requires_grad
    assert torch.equal(whole, network(images()))
    singly = torch.cat([network(image[None]) for image in images()])
    assert torch.allclose(whole, singly, atol=1e-4)
    assert (whole[0] - whole[1]).abs().max() > 1e-2


def test_weights_are_those_of_imagenet(network: EfficientNetLite0Features) -> None:
    weights = network.network.state_dict()
    assert sum(value.numel() for value in weights.values()) == pytest.approx(4.7e6, rel=0.02)
    assert float(weights["_bn1.running_var"].mean()) != 1.0  # what an untrained network has


def test_images_are_normalised_and_clipped(network: EfficientNetLite0Features) -> None:
    seen: list[torch.Tensor] = []
    hook = network.network._conv_stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.full((1, 3, 9, 7), 5.0))
    network(torch.full((1, 3, 9, 7), -1.0))
    hook.remove()
    white, black = seen
    assert white.shape == (1, 3, 64, 64)
    assert white[0, :, 30, 30].tolist() == pytest.approx(
        [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    )
    assert black[0, :, 30, 30].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])


def test_one_channel_is_repeated(network: EfficientNetLite0Features) -> None:
    grey = images(1)
    assert torch.allclose(network(grey), network(grey.expand(-1, 3, -1, -1)), atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_refused(network: EfficientNetLite0Features, channels: int) -> None:
    with pytest.raises(UserError, match=f"need 1 or 3 channels, these images have {channels}"):
        network(images(channels))


def test_training_mode_and_autocast_change_nothing(network: EfficientNetLite0Features) -> None:
    expected = network(images())
    parent = torch.nn.Sequential(network).train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(parent(images()), expected)


def test_building_draws_no_random_numbers() -> None:
    state = torch.random.get_rng_state()
    EfficientNetLite0Features(size=64)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_extract_joins_batches_and_tells_progress(network: EfficientNetLite0Features) -> None:
    done: list[int] = []
    features = network.extract(iter(images().split(3)), done.append)
    assert torch.allclose(features, network(images()), atol=1e-4)
    assert done == [3, 5]
    with pytest.raises(UserError, match="no images"):
        network.extract([])


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_weights(name: str, *rest: Any) -> Any:
        if name.startswith("efficientnet"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_weights)
    with pytest.raises(UserError, match=r"pip install 'calotype\[eval\]'"):
        EfficientNetLite0Features()
