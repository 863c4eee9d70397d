from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from calotype.conditioner import SpatialRescalerConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

CONFIG = SpatialRescalerConfig(in_channels=3, stages=2, out_channels=2)
PLAIN = replace(CONFIG, out_channels=None)
LABELS = torch.tensor([[0, 0, 1, 1]] * 4)


def test_labels_become_shares_of_each_class() -> None:
    embedder = replace(PLAIN, stages=1).build()
    assert not embedder.state_dict()
    inputs = embedder.prepare([LABELS, LABELS.flip(1)])
    assert inputs.dtype == torch.int64
    shares = embedder(inputs).concat
    assert torch.equal(shares[0], torch.tensor([[[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2, [[0.0, 0.0]] * 2]))
    one_hot = F.one_hot(LABELS, 3).permute(2, 0, 1)
    assert torch.equal(embedder(embedder.prepare([one_hot])).concat[0], shares[0])


def test_what_is_not_labelled_is_no_class() -> None:
    embedder = replace(PLAIN, stages=0).build()
    shares = embedder(embedder.prepare([LABELS - 1])).concat
    assert torch.equal(shares.sum(dim=1), (LABELS > 0).float()[None])
    assert torch.equal(shares[:, 0], (LABELS == 1).float()[None])


@pytest.mark.parametrize("method", ["area", "nearest"])
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6, 8, 12, 16])
def test_one_stage_lands_on_the_latents_of_any_factor(factor: int, method: str) -> None:
    embedder = replace(PLAIN, multiplier=1 / factor, stages=1, method=method).build()
    grid = torch.randint(3, (5, 8), generator=torch.Generator().manual_seed(0))
    labels = grid.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    concat = embedder(embedder.prepare([labels])).concat
    torch.testing.assert_close(concat, F.one_hot(grid, 3).permute(2, 0, 1)[None].float())


def test_channels_are_mapped_after_the_stages() -> None:
    embedder = replace(CONFIG, bias=True).build()
    assert list(embedder.state_dict()) == ["channel_mapper.weight", "channel_mapper.bias"]
    maps = torch.randn(2, 3, 8, 4)
    small = F.avg_pool2d(F.avg_pool2d(maps, 2), 2)
    torch.testing.assert_close(embedder(embedder.prepare(list(maps))).concat, embedder.channel_mapper(small))


@pytest.mark.parametrize("labels", [True, False])
def test_dropped_and_missing_are_zeros(labels: bool) -> None:
    embedder, value = CONFIG.build(), LABELS if labels else torch.randn(3, 4, 4)
    concat = embedder(embedder.prepare([value, None, value]), torch.tensor([True, False, False])).concat
    assert concat[:2].abs().max() == 0
    assert torch.equal(concat[2:], embedder(embedder.prepare([value])).concat)


def test_a_missing_map_has_no_size_of_its_own() -> None:
    for refused in (
        lambda: CONFIG.build().null(1),
        lambda: CONFIG.build().prepare([None]),
        lambda: replace(CONFIG, null="none").build().prepare([LABELS, None]),
    ):
        with pytest.raises(UserError, match=r"^segmentation: this model needs a value for every image$"):
            refused()


@pytest.mark.parametrize(
    "value", [LABELS + 2, LABELS - 2, LABELS.float(), torch.zeros(2, 4, 4), torch.zeros(4), "sky", torch.zeros(3, 0, 4)]
)
def test_what_is_no_map_is_refused(value: Any) -> None:
    embedder = CONFIG.build()
    assert not embedder.takes(value)
    with pytest.raises(UserError, match=r"^segmentation must be maps of 3 x height x width or integers 0..2 "):
        embedder.prepare([value])


def test_maps_and_labels_do_not_mix() -> None:
    with pytest.raises(UserError, match="all of one shape in a batch"):
        CONFIG.build().prepare([LABELS, torch.zeros(3, 4, 4)])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"in_channels": 0}, "in_channels"),
        ({"stages": -1}, "stages"),
        ({"multiplier": 0.0}, "multiplier"),
        ({"method": "lanczos"}, "method"),
        ({"out_channels": None, "bias": True}, "bias"),
        ({"null": "none", "dropout": 0.1}, "dropout"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    assert from_dict(SpatialRescalerConfig, to_dict(CONFIG)) == CONFIG
    with pytest.raises(UserError, match=rf"^config: .*{field}"):
        from_dict(SpatialRescalerConfig, {**to_dict(CONFIG), **change})
