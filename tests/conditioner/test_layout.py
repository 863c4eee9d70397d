import logging
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from calotype.conditioner import Box, LayoutConfig, LayoutObject
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

# A grid of 5 x 5: positions are multiples of 1/4, and token 24 is both its last node and "nothing".
CONFIG = LayoutConfig(classes=("cat", "dog", "3"), max_objects=3, tokens=25)
CAT, DOG = LayoutObject("cat", Box(0.25, 0.0, 0.5, 0.25)), LayoutObject("dog", Box(0.5, 0.5, 0.25, 0.5))
HALF = Box(0.0, 0.0, 0.5, 1.0)
NONE = 24


def test_corners_are_numbered_row_by_row() -> None:
    tokens = CONFIG.build()
    assert tokens.length == CONFIG.length == 3 * 3 + 2
    assert tokens.encode([CAT, DOG]) == [0, 1, 8, 1, 12, 23, NONE, NONE, NONE, 0, 24]
    assert tokens.encode([]) == tokens.empty() == [NONE] * 9 + [0, 24]
    assert tokens.token_of(0.124, 0.126) == 5
    assert tokens.token_of(0.125, 0.375) == 2 * 5, "halves go to even nodes"


def test_centres_are_one_token() -> None:
    tokens = replace(CONFIG, position="centre", encode_crop=False).build()
    assert tokens.encode([CAT, DOG]) == [0, 2, 1, 17, NONE, NONE]
    assert tokens.decode([0, 2, 1, 17, NONE, NONE]).objects == [
        LayoutObject("cat", Box(0.5, 0.0, 0.0, 0.0)),
        LayoutObject("dog", Box(0.5, 0.75, 0.0, 0.0)),
    ]


def test_a_crop_is_told_and_leaves_out_what_it_does_not_show() -> None:
    tokens = CONFIG.build()
    assert tokens.encode([DOG, CAT], HALF) == [0, 1, 8, *[NONE] * 6, 0, 22], "the dog only touches it"
    assert tokens.encode([DOG, CAT], HALF, flip=True) == [0, 1, 8, *[NONE] * 6, 2, 24]


def test_without_a_told_crop_boxes_are_relative_to_it() -> None:
    tokens, shifted = (replace(CONFIG, encode_crop=False, at_border=border).build() for border in ("cut", "shift"))
    assert tokens.encode([CAT], HALF) == [0, 2, 9, *[NONE] * 6]
    assert tokens.encode([CAT], HALF, flip=True) == [0, 0, 7, *[NONE] * 6]
    right = Box(0.5, 0.0, 0.5, 1.0)
    assert tokens.encode([CAT], right) == [0, 0, 7, *[NONE] * 6]
    assert shifted.encode([CAT], right) == [0, 0, 9, *[NONE] * 6], "as wide as before, from the border on"


def test_a_layout_comes_back() -> None:
    tokens = replace(CONFIG, flags=("group", "inside"), tokens=81).build()
    group = replace(DOG, flags=frozenset({"group", "inside"}))
    number = LayoutObject("3", Box(0.0, 0.0, 0.125, 0.125), frozenset({"inside"}))
    layout = tokens.decode(tokens.encode([CAT, group, number], HALF.flipped()))
    assert layout.objects == [CAT, group]
    assert layout.crop == HALF.flipped()
    assert tokens.decode(tokens.encode([number])).objects == [number]
    with pytest.raises(ValueError, match="a layout has 11 tokens, not 3"):
        tokens.decode([0, 1, 2])


def test_flags_are_further_classes() -> None:
    both = {"class": "dog", "box": CAT.box, "group": True, "occluded": True, "depiction": False}
    for flags, modifier in ({(): 0, ("group",): 1, ("occluded",): 2, ("group", "occluded"): 3}).items():
        assert replace(CONFIG, flags=flags).build().encode([both])[0] == 1 + 3 * modifier
    with pytest.raises(UserError, match="class '3' with its flags is beyond the 25 tokens"):
        replace(CONFIG, flags=("inside",)).build().encode([{"class": 3, "box": CAT.box, "inside": True}])


def test_classes_may_be_numbers_alone() -> None:
    tokens = replace(CONFIG, classes=4).build()
    assert tokens.encode([replace(CAT, label=3), replace(CAT, label="2")])[:6:3] == [3, 2]
    assert tokens.decode(tokens.encode([replace(CAT, label="2")])).objects == [replace(CAT, label=2)]


def test_the_first_objects_are_kept_and_shuffled_only_by_a_generator(caplog: pytest.LogCaptureFixture) -> None:
    tokens = CONFIG.build()
    four = [LayoutObject("cat", Box(0.0, 0.0, share, share)) for share in (0.25, 0.5, 0.75, 1.0)]
    with caplog.at_level(logging.WARNING):
        assert tokens.encode(four)[2:9:3] == [6, 12, 18]
    assert "only 3 of 4 objects" in caplog.text
    shuffled = [0.25, 0.5, 0.75]
    Random(3).shuffle(shuffled)
    assert [item.box.width for item in tokens.decode(tokens.encode(four, shuffle=Random(3))).objects] == shuffled
    assert shuffled != [0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"class": "cat"}, "needs a 'class' and a 'box'"),
        ({"class": "dgo", "box": CAT.box}, r"class 'dgo' of the layout is unknown. Did you mean 'dog'\?"),
        ({"class": "dog", "box": [0.1, 0.2, 0.3]}, "a box of a layout is x, y, width and height"),
        ({"class": "dog", "box": 3}, "a box of a layout is x, y, width and height"),
        ({"class": "dog", "box": [10, 20, 30, 40]}, "outside of the image: boxes are relative to it"),
        ({"class": "dog", "box": [-0.3, 0, 0.2, 1]}, "outside of the image"),
        ({"class": "dog", "box": [0.5, 0.5, -0.1, 0.1]}, "outside of the image"),
        ({"class": "dog", "box": [0.5, float("nan"), 0.1, 0.1]}, "outside of the image"),
    ],
)
def test_what_is_no_object_is_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CONFIG.build().encode([value])


def test_only_lists_of_objects_are_taken() -> None:
    tokens = CONFIG.build()
    assert tokens.takes([CAT, {"class": "dog"}])
    assert tokens.takes([])
    for value in (None, "cat", [3], [CAT, "dog"], {"class": "dog"}):
        assert not tokens.takes(value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"classes": 0}, "classes"),
        ({"classes": ["cat", "cat"]}, "classes"),
        ({"max_objects": 0}, "max_objects"),
        ({"tokens": 2}, "tokens"),
        ({"classes": 26}, "tokens"),
        ({"flags": ["big"]}, "flags"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(change: dict[str, Any], field: str) -> None:
    assert from_dict(LayoutConfig, to_dict(CONFIG)) == CONFIG
    with pytest.raises(UserError, match=rf"^config: .*{field}"):
        from_dict(LayoutConfig, {**to_dict(CONFIG), **change})
