from typing import Any

import numpy as np
import pytest
import torch

import tiny
from calotype.conditioner import SpatialRescalerConfig
from calotype.pipeline import LatentDiffusion
from calotype.tasks.semantic import semantic_synthesis
from calotype.tasks.windows import in_windows
from calotype.utils.errors import UserError

FEW: dict[str, Any] = {"seeds": [3, 4], "steps": 2}
MAPS = np.random.default_rng(0).integers(-1, 3, (40, 48))


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return tiny.conditioned_model(
        SpatialRescalerConfig(in_channels=3, stages=1, multiplier=1 / 2, method="area", out_channels=2)
    )


def test_images_are_of_the_map_and_the_seed(model: LatentDiffusion) -> None:
    labels = MAPS[:16, :16]
    drawn = semantic_synthesis(model, labels, **FEW)
    assert torch.equal(drawn, model.sample(segmentation=[labels] * 2, **FEW))
    assert (drawn[0] - drawn[1]).abs().max() > 0.01
    changed = semantic_synthesis(model, np.where(labels == 1, 2, labels), **FEW)
    assert (drawn - changed).abs().max() > 1e-3


def test_a_map_of_any_size_is_drawn_at_its_size(model: LatentDiffusion) -> None:
    for height, width in ((7, 9), (16, 48), (40, 21)):
        for windows in (True, False):
            drawn = semantic_synthesis(model, MAPS[:height, :width], windows=windows, **FEW)
            assert drawn.shape == (2, 3, height, width)
            assert drawn.isfinite().all()


def test_larger_maps_are_drawn_in_windows_or_in_one_piece(model: LatentDiffusion) -> None:
    size, value = (16, 48), {"segmentation": [MAPS[:16]] * 2}
    windows, whole = (semantic_synthesis(model, MAPS[:16], windows=windows, **FEW) for windows in (True, False))
    assert torch.equal(whole, model.sample(size=size, **value, **FEW))
    assert torch.equal(windows, in_windows(model, size).sample(size=size, **value, **FEW))
    assert (windows - whole).abs().max() > 1e-3


def test_what_the_model_does_not_know_is_told(model: LatentDiffusion) -> None:
    labels = MAPS[:16, :16].copy()
    labels[5, 7] = 40
    with pytest.raises(UserError, match=r"^the map has the label 40 at x 7, y 5; this model knows 0 to 2$"):
        semantic_synthesis(model, labels, **FEW)
    with pytest.raises(UserError, match=r"^this model takes no label maps \(it takes caption\): .*--task semantic"):
        semantic_synthesis(tiny.conditioned_model(tiny.TEXT), MAPS, **FEW)
    with pytest.raises(UserError, match=r"pixels, and .* is the most"):
        semantic_synthesis(model, np.broadcast_to(np.int64(0), (100_000, 10_000)), **FEW)
