from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch

from calotype.data.cropping import crop_boxes, crop_image, crop_labels
from calotype.data.derived import LowResolution, MaskedImage, Reference
from calotype.data.fields import FieldReader
from calotype.data.image_set import ImageSet, Record
from calotype.data.latents import LatentLoader, Moments
from calotype.data.loader import Loader
from calotype.data.pixel_format import PixelFormat
from calotype.data.transforms import Transform

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 16, 24, 3)).astype(np.uint8)
BOX = {"class": "cat", "box": [0.25, 0.5, 0.5, 0.25]}


class Scenes(ImageSet):
    """Images of 24 x 16 with boxes, maps of their own red channel, and the image itself as a sketch."""

    def __init__(self) -> None:
        self.source, self.pixel_format = "scenes", PixelFormat()
        self.records = tuple(Record(f"{i}", {"caption": f"scene {i}", "boxes": [BOX]}) for i in range(len(PIXELS)))

    def pixels(self, index: int) -> np.ndarray:
        return PIXELS[index]

    def value(self, index: int, name: str) -> Any:
        arrays = {"segmentation": PIXELS[index, ..., 0].astype(np.int32), "sketch": PIXELS[index], "half": None}
        return arrays[name] if name in arrays else super().value(index, name)

    @property
    def field_names(self) -> tuple[str, ...]:
        return ("boxes", "caption", "segmentation", "sketch")

    @cached_property
    def fingerprint(self) -> str:
        return "scenes"


@pytest.fixture
def loader() -> Loader:
    return Loader(Scenes(), Transform(size=16))


def test_maps_images_and_boxes_show_what_the_crop_shows(loader: Loader) -> None:
    fields = FieldReader(loader).at([2, 4])
    images = loader.at([2, 4]).images
    for row in range(2):
        assert torch.equal(fields["sketch"][row], images[row])
        assert torch.allclose(fields["segmentation"][row] / 127.5 - 1, images[row, 0], atol=1e-6)
    assert fields["caption"] == ["scene 2", "scene 4"]
    # the crop is columns 4 to 19 of 24: x from 6 to 18 becomes 2 to 14 of 16
    assert fields["boxes"][0] == [{"class": "cat", "box": [2 / 16, 0.5, 12 / 16, 0.25]}]


def test_a_mirrored_image_has_its_fields_mirrored(loader: Loader) -> None:
    reader = FieldReader(loader, derived=[Reference()])
    plain, turned = (reader.for_training([3], [7], [mirror]) for mirror in (False, True))
    assert torch.equal(turned["reference"][0], plain["reference"][0].flip(2))
    assert torch.equal(turned["reference"][0], turned["sketch"][0])
    assert torch.equal(turned["segmentation"][0], plain["segmentation"][0].flip(1))
    x, y, width, height = plain["boxes"][0][0]["box"]
    assert turned["boxes"][0][0]["box"] == pytest.approx([1 - x - width, y, width, height])
    assert turned["caption"] == plain["caption"]


def test_what_is_made_of_an_image_depends_on_the_sample_alone(loader: Loader) -> None:
    reader = FieldReader(loader, derived=[MaskedImage(), LowResolution(factor=4)])
    image, known = reader.for_training([1, 5], [10, 11], [False, False])["masked_image"][1]
    assert torch.equal(image, loader.at([5]).images[0])
    again = reader.for_training([5], [11], [False])["masked_image"][0]
    assert torch.equal(again[1], known)
    others = [reader.for_training([5], [position], [False])["masked_image"][0][1] for position in range(12, 18)]
    assert any(not torch.equal(other, known) for other in others)
    fixed = [reader.at([5])["masked_image"][0][1] for _ in range(2)]
    assert torch.equal(*fixed)
    assert reader.at([0])["low_resolution"][0].shape == (3, 4, 4)


def test_lookups_and_derived_fields_replace_those_of_the_records(loader: Loader) -> None:
    reader = FieldReader(loader, derived=[Reference(field="sketch")], lookups={"caption": lambda index: index * 10})
    fields = reader.at([1, 2])
    assert fields["caption"] == [10, 20]
    assert set(fields) == {"boxes", "caption", "segmentation", "sketch"}


def test_smaller_images_of_the_same_place_stay_smaller() -> None:
    half = PIXELS[0].reshape(8, 2, 12, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    assert np.array_equal(crop_image(half, Transform(size=16), (16, 24)), half[:, 2:10])
    assert crop_image(half, Transform(size=8), (16, 24)).shape == (4, 4, 3)


def test_labels_are_never_mixed() -> None:
    labels = np.array([[0, 9, 9, 0], [0, 9, 9, 0]], np.int32)
    assert crop_labels(labels, Transform(size=4)).tolist() == [[9] * 4] * 4
    assert crop_labels(labels, Transform(size=(2, 2))).tolist() == [[9, 9], [9, 9]]


def test_boxes_are_cut_at_the_crop_and_left_out_beyond_it() -> None:
    boxes = [{"class": "a", "box": [0.0, 0.0, 0.5, 1.0]}, {"class": "b", "box": [0.0, 0.0, 0.25, 1.0]}]
    assert crop_boxes(boxes, Transform(size=8), (8, 16)) == [{"class": "a", "box": [0.0, 0.0, 0.5, 1.0]}]


def test_batches_of_latents_have_their_fields_read_ahead_or_not(loader: Loader) -> None:
    moments = Moments(torch.arange(6.0).view(6, 1, 1, 1))
    mirrored = Moments(moments.mean + 100)
    records = loader.images.records
    reader = FieldReader(loader, derived=[Reference()])
    source = LatentLoader(moments, records, 0, mirrored, reader)
    batch = source.batch(6, 6)
    for row, index in enumerate(batch.indices.tolist()):
        image = loader.at([index]).images[0]
        turned = bool(batch.moments.mean[row] >= 100)
        assert torch.equal(batch.fields["reference"][row], image.flip(2) if turned else image)
    assert {bool(value >= 100) for value in batch.moments.mean} == {True, False}
    source.prefetch(0, 3)
    source.prefetch(6, 6, slice(2, 4))
    part = source.batch(6, 6, slice(2, 4))
    assert torch.equal(part.indices, batch.indices[2:4])
    assert all(
        torch.equal(*pair) for pair in zip(part.fields["reference"], batch.fields["reference"][2:4], strict=True)
    )
    assert source.at([3]).fields["caption"] == ["scene 3"]
    assert "reference" not in LatentLoader(moments, records).batch(0, 2).fields
