import pytest
import torch

from calotype.evaluation import caption_agreement, label_agreement
from calotype.utils.seeds import generator

# Four directions about a far mean: without centring all cosines would be nearly 1.
CENTRE = torch.tensor([100.0, 100.0])
EAST, NORTH, WEST, SOUTH = (CENTRE + torch.tensor(step) for step in ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]))
REFERENCES = torch.stack([EAST, NORTH, WEST, SOUTH])
CAPTIONS = ["east", "north", "west", "south"]


def towards(*steps: tuple[float, float]) -> torch.Tensor:
    return CENTRE + torch.tensor(steps)


def test_ranks_and_chance_are_counted_by_hand() -> None:
    # The second sample looks north-north-east: north, east, then west, then south.
    samples = towards((3.0, 0.1), (0.4, 1.0), (0.4, 1.0), (0.4, 1.0))
    result = caption_agreement(samples, ["east", "east", "west", "south"], REFERENCES, CAPTIONS, top=(1, 2, 3))
    assert {k: agreement.value for k, agreement in result.top.items()} == {1: 0.25, 2: 0.5, 3: 0.75}
    assert [agreement.chance for agreement in result.top.values()] == pytest.approx([0.25, 0.5, 0.75])
    assert result.median_rank == 2.5
    assert (result.n_samples, result.n_references) == (4, 4)


def test_the_nearest_of_several_images_of_a_caption_counts() -> None:
    captions = ["side", "north", "side", "south"]
    result = caption_agreement(towards((-1.0, 0.1)), ["side"], REFERENCES, captions, top=(1, 2))
    assert result.top[1].value == 1.0
    assert result.top[1].chance == pytest.approx(1 / 2)
    assert result.top[2].chance == pytest.approx(1 - 1 / 6)  # of six pairs of references one has no "side"


def test_ties_count_against_the_sample() -> None:
    collapsed = REFERENCES.mean(0).expand(3, 2)  # a sampler that always shows the average
    result = caption_agreement(collapsed, ["east", "north", "west"], REFERENCES, CAPTIONS, top=(1,))
    assert result.top[1].value == 0.0
    assert result.median_rank == 4


def test_random_features_agree_by_chance() -> None:
    random = generator("agreement")
    captions = [str(index % 20) for index in range(60)]
    samples, references = torch.randn(2000, 8, generator=random), torch.randn(60, 8, generator=random)
    result = caption_agreement(samples, [str(index % 20) for index in range(2000)], references, captions)
    for agreement in result.top.values():
        assert agreement.value == pytest.approx(agreement.chance, abs=0.05)


def test_unknown_and_missing_captions() -> None:
    samples = towards((1.0, 0.0), (0.0, 1.0))
    result = caption_agreement(samples, ["east", None], REFERENCES, CAPTIONS, top=(1, 10))
    assert (result.n_samples, result.top[1].value, result.top[4].chance) == (1, 1.0, 1.0)  # k is 4 at most
    with pytest.raises(ValueError, match="no reference image has the caption 'up'"):
        caption_agreement(samples, ["east", "up"], REFERENCES, CAPTIONS)
    with pytest.raises(ValueError, match="no sample has a caption"):
        caption_agreement(samples, [None, None], REFERENCES, CAPTIONS)
    with pytest.raises(ValueError, match="3 labels for 2 images"):
        caption_agreement(samples, ["east"] * 3, REFERENCES, CAPTIONS)


def test_features_that_are_not_finite_do_not_agree_with_anything() -> None:
    with pytest.raises(ValueError, match="not finite"):
        caption_agreement(towards((torch.nan, 1.0)), ["east"], REFERENCES, CAPTIONS)


def test_labels_are_those_of_the_nearest_labelled_reference() -> None:
    # South has no label: the mean of the other three lies north of the centre, a sample to the south falls to a side.
    labels = ["flat", "3d", "flat", None]
    samples = towards((2.0, 0.3), (0.0, 5.0), (0.3, -1.0), (-1.0, 0.0))
    result = label_agreement(samples, ["flat", "3d", "flat", "3d"], REFERENCES, labels)
    assert result.agreement.value == 0.75
    assert result.agreement.chance == pytest.approx((2 / 3 + 1 / 3 + 2 / 3 + 1 / 3) / 4)
    assert (result.n_samples, result.n_references) == (4, 3)
    with pytest.raises(ValueError, match="no reference image has a label"):
        label_agreement(samples, ["flat"] * 4, REFERENCES, [None] * 4)
