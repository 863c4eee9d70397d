"""Values of fields as a table holds them: scalars, boxes, and vectors, checked one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

LABELS = "segmentation"
IN_ROWS = ("text", "caption", "class", "boxes")
MAX_OBJECTS, MAX_NUMBERS, MAX_WORD = 1_000, 65_536, 1_000
MAX_SHOWN = 100
_LARGEST = 3.4e38  # of float32
_SLACK = 1e-6


class BadValue(ValueError):
    """A value that cannot be used; the message says why, in a few words."""


def check_value(key: str, value: Any) -> Any:
    """Return the value of field ``key`` as records hold it.

    Scalars stay what they are, words of up to ``MAX_WORD`` characters. ``boxes`` are a list of
    objects, each with a ``class`` and a ``box``: x and y of the upper left corner, width and height, as shares of the
    image. Any other list is one of numbers, a vector.

    Raises:
        BadValue: it is none of these.
    """
    if key == "boxes":
        return _boxes(value)
    if key == LABELS:
        raise BadValue(f'is a label map in a file: give "{LABELS}_file_name"')
    if isinstance(value, list) and key != "class":
        return _vector(value)
    if not isinstance(value, str | int | float | bool):
        raise BadValue("is neither a single value nor a list of numbers" if key != "class" else "is no single value")
    check_word(value)
    return value


def check_name(name: str) -> None:
    """Check the name of a field.

    Raises:
        BadValue: it is empty, longer than ``MAX_SHOWN`` characters, or cannot be printed.
    """
    if not name or len(name) > MAX_SHOWN or not name.isprintable():
        raise BadValue(f"is no name of a field, which has 1 to {MAX_SHOWN} printable characters")


def check_word(value: object, has: str = "has") -> None:
    """Check a single value.

    Raises:
        BadValue: it is longer than ``MAX_WORD`` characters.
    """
    if isinstance(value, str) and len(value) > MAX_WORD:
        raise BadValue(f"{has} {len(value)} characters; {MAX_WORD} are the most (longer text is a caption)")


def _boxes(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise BadValue('is no list of objects such as {"class": "cat", "box": [0.1, 0.2, 0.5, 0.5]}')
    if len(value) > MAX_OBJECTS:
        raise BadValue(f"has {len(value)} objects; {MAX_OBJECTS} are the most")
    return [_object(number, each) for number, each in enumerate(value, start=1)]


def _object(number: int, value: Mapping[str, Any]) -> dict[str, Any]:
    label, box = value.get("class"), value.get("box")
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise BadValue(f"object {number} has no class, which is a name or a number")
    check_word(label, f"object {number} has a class of")
    if box is None or not _numbers(box) or len(box) != 4:
        raise BadValue(f"object {number} has no box of four numbers: x, y, width and height")
    x, y, width, height = (float(edge) for edge in box)
    if width <= 0 or height <= 0:
        raise BadValue(f"object {number} has a box without extent: {box}")
    if x < -_SLACK or y < -_SLACK or x + width > 1 + _SLACK or y + height > 1 + _SLACK:
        raise BadValue(f"object {number} has a box out of range: {box} (shares of the image, from 0 to 1)")
    return {**value, "class": str(label), "box": [x, y, width, height]}


def _vector(value: list[Any]) -> list[float]:
    if not value or not _numbers(value):
        raise BadValue("is a list, but not of numbers")
    if len(value) > MAX_NUMBERS:
        raise BadValue(f"has {len(value)} numbers; {MAX_NUMBERS} are the most")
    return [float(number) for number in value]


def _numbers(value: Any) -> bool:
    def is_number(each: Any) -> bool:
        return isinstance(each, int | float) and not isinstance(each, bool) and -_LARGEST <= each <= _LARGEST

    return isinstance(value, Sequence) and not isinstance(value, str) and all(is_number(each) for each in value)
