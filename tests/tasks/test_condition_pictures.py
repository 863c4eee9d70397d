import torch

from calotype.tasks.condition_pictures import condition_pictures


def test_the_first_field_that_can_be_shown_is() -> None:
    image = torch.rand(3, 8, 8) * 2 - 1
    known = torch.zeros(1, 8, 8)
    known[:, :4] = 1
    shown = condition_pictures({"caption": ["a", "b"], "masked_image": [(image, known), None]}, (8, 8))
    assert shown is not None
    assert torch.equal(shown[0, :, :4], image[:, :4])
    assert shown[0, :, 4:].abs().max() == 0, "the hole is grey"
    assert torch.equal(shown[1], torch.ones(3, 8, 8)), "nothing was asked for"


def test_small_images_and_maps_are_enlarged_without_a_blur() -> None:
    small = torch.rand(1, 2, 2) * 2 - 1
    shown = condition_pictures({"low_resolution": [small]}, (8, 8))
    assert shown is not None
    assert torch.equal(shown[0], small.expand(3, -1, -1).repeat_interleave(4, 1).repeat_interleave(4, 2))
    labels = torch.tensor([[0, 1], [1, -1]])
    colours = condition_pictures({"segmentation": [labels]}, (2, 2))
    assert colours is not None
    assert torch.equal(colours[0, :, 0, 1], colours[0, :, 1, 0])
    assert len(torch.unique(colours[0].flatten(1), dim=1).T) == 3


def test_boxes_are_frames_on_white() -> None:
    box = {"class": "cat", "box": [0.5, 0.0, 0.5, 1.0]}
    shown = condition_pictures({"boxes": [[box]]}, (64, 64))
    assert shown is not None
    assert shown[0, :, :, :28].min() == 1
    assert shown[0, :, :, 32].max() < 1


def test_words_and_vectors_have_no_picture() -> None:
    assert condition_pictures({"caption": ["a"], "vector": [torch.zeros(3)], "class": [None]}, (8, 8)) is None
