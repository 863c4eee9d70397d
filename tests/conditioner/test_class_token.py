from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from calotype.conditioner import ClassEmbedderConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

CONFIG = ClassEmbedderConfig(classes=5, channels=6, null_class=4, dropout=0.1)
WITHOUT = replace(CONFIG, null_class=None, dropout=0.0)


def test_a_class_becomes_one_token() -> None:
    embedder = CONFIG.build()
    assert list(embedder.state_dict()) == ["embedding.weight"]
    classes = embedder.prepare([3, "0", np.int64(2), torch.tensor(1), None])
    assert classes.tolist() == [3, 0, 2, 1, 4]
    conditioning = embedder(classes)
    assert conditioning.slots().keys() == {"context"}
    assert torch.equal(conditioning.context, embedder.embedding.weight[classes][:, None])


def test_dropped_and_missing_are_the_null_class() -> None:
    embedder = CONFIG.build()
    dropped = embedder(embedder.prepare([3, None, 1]), torch.tensor([True, False, False]))
    assert torch.equal(dropped.context[:2], embedder(embedder.null(2)).context)
    assert torch.equal(dropped.context[2, 0], embedder.embedding.weight[1])


@pytest.mark.parametrize("value", [5, -1, "5", "-1", "cat", "1.0", 1.0, "²", [1]])
def test_what_is_no_class_is_refused(value: Any) -> None:
    embedder = CONFIG.build()
    assert not embedder.takes(value)
    with pytest.raises(UserError, match=r"^class '.*' is unknown. Give 0 to 4$"):
        embedder.prepare([0, value])


def test_without_a_null_class_every_image_needs_one() -> None:
    embedder = WITHOUT.build()
    assert CONFIG.build().has_null
    assert not embedder.has_null
    assert not embedder.takes(None)
    for refused in (lambda: embedder.prepare([1, None]), lambda: embedder.null(2)):
        with pytest.raises(UserError, match=r"^class: this model needs a value for every image$"):
            refused()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"classes": 0}, "classes"),
        ({"channels": 0}, "channels"),
        ({"null_class": 5}, "null_class"),
        ({"null_class": None}, "dropout must be 0"),
        ({"dropout": 2.0}, "dropout"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    assert from_dict(ClassEmbedderConfig, to_dict(CONFIG)) == CONFIG
    with pytest.raises(UserError, match=rf"^config: .*{field}"):
        from_dict(ClassEmbedderConfig, {**to_dict(CONFIG), **change})


def test_classes_may_have_names() -> None:
    embedder = replace(CONFIG, classes=("3d", "flat", "noto", "2", "")).build()
    assert embedder.prepare(["flat", 2, None, "3d"]).tolist() == [1, 3, 4, 0]
    assert embedder.takes("noto")
    assert not embedder.takes("twemoji")
    with pytest.raises(UserError, match=r"^class 'flad' is unknown. Did you mean 'flat'\?$"):
        embedder.prepare(["flad"])
    with pytest.raises(ValueError, match="classes must name each class once"):
        replace(CONFIG, classes=("a", "a"))
