import math
from typing import Any

import pytest
import torch
from synthetic import manifests

from calotype.interop.original import original_config, original_keys
from calotype.interop.original.keys import original_state


@pytest.mark.parametrize("name", manifests())
def test_keys_shapes_types_and_counts_are_those_of_the_released_model(name: str) -> None:
    recorded = manifests()[name]
    config = original_config(recorded)
    keys = original_keys(config)

    assert keys == {key: tuple(shape) for key, shape in recorded["shapes"].items()}
    types = {key: str(value.dtype).removeprefix("torch.") for key, value in original_state(config).items()}
    assert {key: kind for key, kind in types.items() if kind != "float32"} == recorded["non_float32"]
    for group, counts in recorded["groups"].items():
        assert numbers_in(group, keys) == counts["numel"], group


def test_nothing_is_allocated() -> None:
    config = original_config(manifests()["latent-diffusion/txt2img-1p4B-eval"])
    assert {tensor.device for tensor in original_state(config).values()} == {torch.device("meta")}


def test_a_learned_log_variance_has_a_key() -> None:
    model: dict[str, Any] = manifests()["ldm/celeba256"]["model"]
    config = original_config({**model, "params": {**model["params"], "learn_logvar": True}})
    assert original_keys(config).keys() - manifests()["ldm/celeba256"]["shapes"].keys() == {"logvar"}


def numbers_in(group: str, keys: dict[str, tuple[int, ...]]) -> int:
    if group.startswith("("):
        return sum(math.prod(shape) for key, shape in keys.items() if "." not in key)
    return sum(math.prod(shape) for key, shape in keys.items() if key.startswith(f"{group}."))
