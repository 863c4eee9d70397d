from typing import Any

import pytest
import torch

from calotype.conditioner import LabelEmbedderConfig
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

CONFIG = LabelEmbedderConfig(classes=("cat", "dog", "7"))


def test_names_become_indices_and_the_null_comes_last() -> None:
    embedder = CONFIG.build()
    labels = embedder.prepare(["dog", "cat", None, 7])
    assert labels.tolist() == [1, 0, 3, 2]
    assert torch.equal(embedder(labels).label, labels)
    assert embedder.null(2).tolist() == [3, 3]


def test_dropped_and_missing_are_the_null() -> None:
    embedder = CONFIG.build()
    conditioning = embedder(embedder.prepare(["dog", "cat", None]), torch.tensor([True, False, False]))
    assert conditioning.label.tolist() == [3, 0, 3]
    assert conditioning.slots().keys() == {"label"}


@pytest.mark.parametrize(
    ("value", "near"), [("dgo", " Did you mean 'dog'?"), ("zzz", ""), (["cat"], " Did you mean 'cat'?")]
)
def test_an_unknown_class_is_refused_with_the_nearest(value: Any, near: str) -> None:
    with pytest.raises(UserError) as refused:
        CONFIG.build().prepare(["cat", value])
    assert str(refused.value) == f"class {str(value)!r} is unknown.{near}"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"classes": ()}, "classes"),
        ({"classes": ("cat", "cat")}, "classes"),
        ({"dropout": -0.1}, "dropout"),
        ({"clases": ("cat",)}, "clases"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    assert from_dict(LabelEmbedderConfig, to_dict(CONFIG)) == CONFIG
    with pytest.raises(UserError, match=rf"^config: .*\b{field}\b"):
        from_dict(LabelEmbedderConfig, {**to_dict(CONFIG), **change})
