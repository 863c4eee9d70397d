import math
from typing import Any

import pytest

from calotype.utils.boxes import Box, LayoutObject, as_object
from calotype.utils.errors import UserError

DOG = {"class": "dog", "box": [0.1, 0.2, 0.3, 0.4]}


def test_an_object_is_what_a_manifest_says_and_back() -> None:
    item = as_object({**DOG, "occluded": True, "group": False})
    assert item == LayoutObject("dog", Box(0.1, 0.2, 0.3, 0.4), frozenset({"occluded"}))
    assert as_object(item) is item or as_object(item) == item
    assert as_object(item.as_field()) == item
    assert item.as_field() == {**DOG, "occluded": True}


def test_what_boxes_share() -> None:
    box = Box(0.1, 0.1, 0.4, 0.2)
    assert box.centre == pytest.approx((0.3, 0.2))
    assert box.shared(Box(0.3, 0.2, 1, 1)) == pytest.approx(0.2 * 0.1)
    assert box.shared(box) == pytest.approx(0.08)
    assert box.shared(Box(0.5, 0.1, 0.1, 0.1)) == 0
    assert not box.overlaps(Box(0.1, 0.5, 0.4, 0.2))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"class": "dog"}, "needs a 'class' and a 'box'"),
        ("dog", "needs a 'class' and a 'box'"),
        ({**DOG, "box": [0.1, 0.2, 0.3]}, "a box of a layout is x, y, width and height"),
        ({**DOG, "box": "all"}, "a box of a layout is"),
        ({**DOG, "box": None}, "a box of a layout is"),
        ({**DOG, "box": [10, 20, 30, 40]}, "is outside of the image: boxes are relative to it"),
        ({**DOG, "box": [0, 0, -0.1, 0.1]}, "is outside"),
        ({**DOG, "box": [math.nan, 0, 1, 1]}, "is outside"),
        ({**DOG, "box": [0, 0, math.inf, 1]}, "is outside"),
    ],
)
def test_what_is_no_object_is_refused(value: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        as_object(value)
