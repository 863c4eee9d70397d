import pytest
import torch
from scipy import ndimage

from calotype.data.masks import RandomMasks
from calotype.utils.config import from_dict, to_dict
from calotype.utils.seeds import generator

NONE = {"strokes": 0.0, "boxes": 0.0, "margins": 0.0, "nothing": 0.0}
ALONE = {kind: RandomMasks(**{**NONE, kind: 1.0}) for kind in NONE}
HOLES = {"strokes": (0.23, 0.14), "boxes": (0.20, 0.10), "margins": (0.49, 0.18)}
"""Mean and spread of the share of an image that each kind leaves open."""


def draw(masks: RandomMasks, count: int, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.stack([masks.draw(height, width, generator("masks", seed)) for seed in range(count)])


@pytest.mark.parametrize("kind", HOLES)
def test_how_much_each_kind_leaves_open(kind):
    known = draw(ALONE[kind], 400)
    assert set(known.unique().tolist()) == {0.0, 1.0}
    holes = 1 - known.mean((1, 2, 3))
    mean, spread = HOLES[kind]
    assert holes.mean() == pytest.approx(mean, abs=4 * spread / 20)
    assert holes.std() == pytest.approx(spread, rel=0.2)


def test_a_mask_depends_on_the_state_of_the_generator_alone():
    first, again, other = (draw(RandomMasks(), count) for count in (20, 20, 21))
    assert torch.equal(first, again)
    assert torch.equal(first, other[:20])
    assert len({tuple(mask.flatten().tolist()) for mask in first}) >= 19


def test_margins_leave_a_rectangle_boxes_often_are_one_and_strokes_never():
    """A rectangle fills its bounding box."""

    def is_rectangle(filled: torch.Tensor) -> bool:
        return all(filled[part].all() for part in ndimage.find_objects(filled.int().numpy()))

    assert all(is_rectangle(mask[0] == 1) for mask in draw(ALONE["margins"], 50))
    assert sum(is_rectangle(mask[0] == 0) for mask in draw(ALONE["boxes"], 200)) > 40
    assert not any(is_rectangle(mask[0] == 0) for mask in draw(ALONE["strokes"], 50))


def test_kinds_come_in_their_proportion():

    masks = RandomMasks(strokes=1.0, boxes=0.0, margins=0.0, nothing=3.0)
    nothing = (draw(masks, 400).amax((1, 2, 3)) == 0).float().mean()
    assert nothing == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 400) ** 0.5)


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (2, 2), (1, 30), (3, 3), (200, 5)])
def test_something_is_known_and_something_open_at_every_size(size):
    for known in draw(RandomMasks(nothing=0.0), 100, *size):
        assert known.shape == (1, *size)
        assert 0 < known.sum() < known.numel()


def test_mistakes_and_the_way_to_a_file_and_back():
    assert from_dict(RandomMasks, to_dict(ALONE["boxes"])) == ALONE["boxes"]
    with pytest.raises(ValueError, match="boxes must be at least 0, not -1"):
        RandomMasks(boxes=-1.0)
    with pytest.raises(ValueError, match="one must be above 0"):
        RandomMasks(**NONE)
    with pytest.raises(ValueError, match="at least two pixels, not 1 x 1"):
        RandomMasks().draw(1, 1, generator(0))
