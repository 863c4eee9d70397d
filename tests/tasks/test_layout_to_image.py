import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from calotype.conditioner import BoxesConfig
from calotype.pipeline import LatentDiffusion
from calotype.tasks.layout import layout_to_image, read_layout
from calotype.utils.boxes import Box, LayoutObject
from calotype.utils.errors import UserError

CAT, DOG = {"class": "cat", "box": [0.1, 0.2, 0.3, 0.4]}, {"class": "dog", "box": [0.5, 0.0, 0.5, 1.0]}


@pytest.fixture(scope="module")
def model() -> LatentDiffusion:
    return tiny.conditioned_model(BoxesConfig(classes=("cat", "dog"), channels=32, max_objects=3))


def test_images_are_of_the_layout_and_the_seed(model: LatentDiffusion) -> None:
    few: dict[str, Any] = {"seeds": [3, 4], "steps": 2}
    drawn = layout_to_image(model, [CAT, DOG], **few)
    assert torch.equal(drawn, model.sample(boxes=[[CAT, DOG]] * 2, **few))
    torch.testing.assert_close(drawn, layout_to_image(model, [LayoutObject("dog", Box(0.5, 0, 0.5, 1)), CAT], **few))
    assert (drawn[0] - drawn[1]).abs().max() > 0.01
    moved = layout_to_image(model, [CAT, {**DOG, "box": [0.0, 0.0, 0.5, 1.0]}], **few)
    assert (drawn - moved).abs().max() > 1e-3
    assert layout_to_image(model, [CAT], seeds=[0], steps=1, size=(16, 24)).shape == (1, 3, 16, 24)


def test_what_the_model_does_not_know_is_told(model: LatentDiffusion) -> None:
    with pytest.raises(UserError, match=r"^class 'dgo' of the layout is unknown. Did you mean 'dog'\?$"):
        layout_to_image(model, [{**DOG, "class": "dgo"}], seeds=[0])
    with pytest.raises(
        UserError, match=r"^this model takes no boxes \(it takes caption\): train one with .*--task layout"
    ):
        layout_to_image(tiny.conditioned_model(tiny.TEXT), [DOG], seeds=[0])


@pytest.mark.parametrize("content", [[CAT, DOG], {"boxes": [CAT, DOG], "file_name": "a.png"}])
def test_a_layout_is_a_list_of_objects_or_a_row_of_a_table(content: Any, tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text(json.dumps(content))
    assert read_layout(tmp_path / "layout.json") == [
        LayoutObject("cat", Box(0.1, 0.2, 0.3, 0.4)),
        LayoutObject("dog", Box(0.5, 0.0, 0.5, 1.0)),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("{}", "is no list of objects such as"),
        ('["dog"]', "is no list of objects such as"),
        (json.dumps([DOG, {**CAT, "box": [10, 20, 30, 40]}]), r"object 2 has a box out of range: .*from 0 to 1"),
        (json.dumps([{**CAT, "box": [0.5, 0.5, 0.6, 0.1]}]), "object 1 has a box out of range"),
        (json.dumps([{"class": "cat"}]), "object 1 has no box"),
        (" " * 2**20 + "[]", "larger than 1 MiB"),
    ],
)
def test_what_is_no_layout_is_told(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text(content)
    with pytest.raises(UserError, match=rf"layout.json .*{said}"):
        read_layout(tmp_path / "layout.json")
    with pytest.raises(UserError, match=r"none.json: No such file"):
        read_layout(tmp_path / "none.json")
