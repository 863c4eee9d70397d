"""Objects of an image by their boxes: the values of a layout."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from calotype.utils.errors import UserError

Flag = Literal["group", "occluded", "depiction", "inside"]
FLAGS: tuple[Flag, ...] = get_args(Flag)


class Box(NamedTuple):
    """A rectangle by its upper left corner, width and height, relative to the image."""

    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle (x, y)."""
        return self.x + self.width / 2, self.y + self.height / 2

    def flipped(self) -> "Box":
        """Return the box in the mirrored image."""
        return self._replace(x=1 - (self.x + self.width))

    def overlaps(self, other: "Box") -> bool:
        """Return whether the two share more than an edge."""
        return self.shared(other) > 0

    def shared(self, other: "Box") -> float:
        """Return the area that two boxes have in common."""
        wide = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        high = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(wide, 0.0) * max(high, 0.0)

    def within(self, other: "Box") -> "Box":
        """Return the box relative to ``other``."""
        x, y = (self.x - other.x) / other.width, (self.y - other.y) / other.height
        return Box(x, y, self.width / other.width, self.height / other.height)


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class LayoutObject:
    """One object: its class, its box, and what else is known about it."""

    label: int | str
    box: Box
    flags: frozenset[Flag] = frozenset()

    def as_field(self) -> dict[str, Any]:
        """Return the object as a manifest writes it; ``as_object`` reads it."""
        return {"class": self.label, "box": list(self.box), **dict.fromkeys(sorted(self.flags), True)}


def as_object(value: Any) -> LayoutObject:
    """Return an object of a layout from ``{"class": "dog", "box": [x, y, width, height]}``, or from one that is it.

    The box is relative to the image; it may reach over its border, but must not lie far outside.

    Raises:
        UserError: it is no such thing, or the box is outside of the image.
    """
    if isinstance(value, LayoutObject):
        label, box, flags = value.label, value.box, value.flags
    elif isinstance(value, Mapping) and {"class", "box"} <= value.keys():
        label, box, flags = value["class"], value["box"], frozenset(flag for flag in FLAGS if value.get(flag))
    else:
        raise UserError(f"an object of a layout needs a 'class' and a 'box', not {value!r}")
    try:
        box = Box(*(float(edge) for edge in box))
    except (TypeError, ValueError):
        raise UserError(f"a box of a layout is x, y, width and height, not {box!r}") from None
    near = box.width >= 0 <= box.height and -box.width <= box.x <= 1 and -box.height <= box.y <= 1
    if not near or not all(math.isfinite(edge) for edge in box):
        raise UserError(f"{tuple(box)} is outside of the image: boxes are relative to it, from 0 to 1")
    return LayoutObject(label, box, flags)
