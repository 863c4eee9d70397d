"""What a model is conditioned on, by the fields of the data and by the task."""

from functools import cached_property
from typing import Any

import numpy as np
import pytest

from calotype.data.attachments import FieldFile
from calotype.data.derived import LowResolution, MaskedImage
from calotype.data.image_set import ImageSet, Record
from calotype.data.pixel_format import PixelFormat
from calotype.presets import find_preset
from calotype.presets.tasks import TASKS, Task
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

PRESET: Any = find_preset("ldm-debug")
LABELS = np.array([[0, 2], [1, -1]], np.int32)
FIELDS = {
    "caption": "a red wave",
    "class": "wave",
    "style": "flat",
    "boxes": [{"class": "cat", "box": [0, 0, 1, 1]}, {"class": "dog", "box": [0, 0, 0.5, 1]}],
    "palette": [0.1, 0.2, 0.3],
    "segmentation": FieldFile("maps/0.png", "x"),
    "tokens": FieldFile("tokens.npy", "y"),
}


class Folder(ImageSet):
    def __init__(self, **fields: Any) -> None:
        self.source, self.pixel_format = "photos", PixelFormat()
        others = {name: {"class": "round", "style": "3d"}.get(name, value) for name, value in fields.items()}
        self.records = (Record("0", fields), Record("1", others), Record("2"))

    def pixels(self, index: int) -> np.ndarray:
        return np.zeros((16, 16, 3), np.uint8)

    def value(self, index: int, name: str) -> Any:
        value = super().value(index, name)
        arrays = {"maps/0.png": LABELS, "tokens.npy": np.ones((4, PRESET.shape.text_channels), np.float32)}
        return arrays[value.name] if isinstance(value, FieldFile) else value

    @cached_property
    def fingerprint(self) -> str:
        return ""


ALL = Folder(**FIELDS)


def fields_of(task: Task, images: ImageSet = ALL) -> list[str]:
    return [each.field for each in PRESET.conditions(images, task, factor=4).conditioner.embedders]


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        (Task(), ["caption"]),
        (Task(name="inpaint"), ["caption", "masked_image"]),
        (Task(name="semantic"), ["segmentation"]),
        (Task(name="layout"), ["boxes"]),
        (Task(conditions=("class", "style", "palette", "tokens")), ["class", "style", "palette", "tokens"]),
        (Task(name="inpaint", conditions=("style",)), ["style", "masked_image"]),
        (Task(name="semantic", conditions=("segmentation", "caption")), ["segmentation", "caption"]),
    ],
)
def test_a_task_and_the_names_of_fields_are_all_it_takes(task: Task, fields: list[str]) -> None:
    assert fields_of(task) == fields
    recipe = PRESET.recipe(4, ALL, PRESET.conditions(ALL, task, factor=4))
    recipe.network.build()
    assert from_dict(type(recipe), to_dict(recipe)) == recipe


def test_captions_come_before_classes_and_either_may_be_missing() -> None:
    without_caption = {name: value for name, value in FIELDS.items() if name != "caption"}
    assert fields_of(Task(), Folder(**without_caption)) == ["class"]
    assert fields_of(Task(), Folder()) == []
    assert fields_of(Task(name="inpaint"), Folder()) == ["masked_image"]


def test_what_is_made_of_the_image_needs_nothing_of_the_data() -> None:
    images = Folder()
    assert PRESET.conditions(images, Task(name="inpaint")).derived == (MaskedImage(),)
    task = Task(name="upscale", factor=8, degradation="bicubic")
    assert PRESET.conditions(images, task, factor=4).derived == (LowResolution(factor=8),)


def test_sizes_follow_from_the_values() -> None:
    task = Task(conditions=("style", "palette", "segmentation", "boxes"))
    style, palette, maps, boxes = PRESET.conditions(ALL, task, factor=4).conditioner.embedders
    assert style.classes == ("3d", "flat", "")
    assert style.null_class == 2
    assert (palette.slot, palette.channels) == ("vector", 3)
    assert (maps.in_channels, maps.multiplier) == (3, 1 / 4)
    assert (boxes.kind, boxes.classes, boxes.max_objects) == ("boxes", ("cat", "dog"), 2)
    (tokens,) = PRESET.conditions(ALL, Task(name="layout", box_tokens=True)).conditioner.embedders
    assert (tokens.kind, tokens.tokens.classes, tokens.length) == ("bert", ("cat", "dog"), 6)
    assert all(each.dropout > 0 for each in (style, palette, maps, boxes))


def test_a_field_that_is_not_there_is_said_in_one_line() -> None:
    images = Folder(caption="a wave")
    with pytest.raises(UserError, match=r'^photos has no \'boxes\' \(its fields: caption\): .*rows with "boxes"$'):
        fields_of(Task(name="layout"), images)
    with pytest.raises(UserError, match=r"no 'segmentation' .*segmentation_file_name"):
        fields_of(Task(name="semantic"), images)
    with pytest.raises(UserError, match="no 'styl'"):
        fields_of(Task(conditions=("styl",)), ALL)
    with pytest.raises(UserError, match=r"^'title' has 1 different values; a condition needs 2 to 1000 of them$"):
        fields_of(Task(conditions=("title",)), Folder(title="the same"))


def test_every_task_is_told_in_a_line() -> None:
    assert all(row.summary and "\n" not in row.summary for row in TASKS.values())
