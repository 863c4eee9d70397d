from typing import Any

import pytest

from calotype.data.field_values import BadValue, check_value

BOX = {"class": "cat", "box": [0.1, 0.2, 0.5, 0.5]}


@pytest.mark.parametrize("value", ["red", 7, 0.5, True, ""])
def test_single_values_stay_what_they_are(value: Any) -> None:
    assert check_value("any", value) is value


def test_vectors_are_numbers() -> None:
    assert check_value("palette", [1, 0.5, -2]) == [1.0, 0.5, -2.0]


def test_boxes_have_classes_and_shares() -> None:
    whole = {"class": 3, "box": [0, 0, 1, 1], "group": True}
    assert check_value("boxes", [BOX, whole]) == [BOX, {"class": "3", "box": [0.0, 0.0, 1.0, 1.0], "group": True}]
    assert check_value("boxes", []) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("palette", ["a"], "not of numbers"),
        ("palette", [], "not of numbers"),
        ("palette", [True], "not of numbers"),
        ("palette", [float("nan")], "not of numbers"),
        ("palette", [0.0] * 65_537, "65536 are the most"),
        ("palette", {"a": 1}, "neither a single value nor a list"),
        ("palette", [10**400], "not of numbers"),
        ("palette", [1e39], "not of numbers"),
        ("mood", "x" * 1001, "has 1001 characters; 1000 are the most"),
        ("class", [1, 2], "is no single value"),
        ("segmentation", "sky", 'give "segmentation_file_name"'),
        ("boxes", [{"class": "x" * 1001, "box": [0, 0, 1, 1]}], "object 1 has a class of 1001 characters"),
        ("boxes", [{"class": "cat", "box": [10**400, 0, 1, 1]}], "no box of four numbers"),
        ("boxes", 3, "no list of objects"),
        ("boxes", [1, 2], "no list of objects"),
        ("boxes", [BOX] * 1001, "1000 are the most"),
        ("boxes", [{"box": [0, 0, 1, 1]}], "object 1 has no class"),
        ("boxes", [BOX, {"class": "cat"}], "object 2 has no box of four numbers"),
        ("boxes", [{"class": "cat", "box": [0, 0, 1]}], "no box of four numbers"),
        ("boxes", [{"class": "cat", "box": "0011"}], "no box of four numbers"),
        ("boxes", [{"class": "cat", "box": [0, 0, 0, 1]}], "without extent"),
        ("boxes", [{"class": "cat", "box": [0.6, 0, 0.5, 1]}], r"out of range: \[0.6, 0, 0.5, 1\]"),
        ("boxes", [{"class": "cat", "box": [-0.1, 0, 0.5, 1]}], "out of range"),
        ("boxes", [{"class": "cat", "box": [10, 20, 100, 50]}], "out of range"),
        ("boxes", [{"class": "cat", "box": [0, 0, float("inf"), 1]}], "no box of four numbers"),
    ],
)
def test_what_cannot_be_used_is_said(key: str, value: Any, said: str) -> None:
    with pytest.raises(BadValue, match=said):
        check_value(key, value)
