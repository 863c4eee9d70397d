"""Boxes, label maps and further images, cropped, resized and mirrored as the image is that they belong to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from calotype.data.transforms import Transform, resize
from calotype.utils.size import height_width


def crop_boxes(
    boxes: Sequence[Mapping[str, Any]], transform: Transform, extent: tuple[int, int]
) -> list[dict[str, Any]]:
    """Return the boxes of an image of ``extent`` relative to its centre crop, cut at its border.

    Those that lie outside are left out.
    """
    height, width = extent
    top, left, rows, columns = transform.window(height, width)
    seen = []
    for each in boxes:
        x, y, wide, high = each["box"]
        first, upper = (x * width - left) / columns, (y * height - top) / rows
        last, lower = min(1.0, first + wide * width / columns), min(1.0, upper + high * height / rows)
        first, upper = max(0.0, first), max(0.0, upper)
        if last > first and lower > upper:
            seen.append({**each, "box": [first, upper, last - first, lower - upper]})
    return seen


def crop_labels(labels: np.ndarray, transform: Transform) -> np.ndarray:
    """Return the labels (h, w) of the centre crop of an image of their size, resized to the nearest, as int64."""
    top, left, height, width = transform.window(*labels.shape)
    rows, columns = height_width(transform.size)
    down, right = _nearest(height, rows), _nearest(width, columns)
    return labels[top + down[:, None], left + right[None]].astype(np.int64)


def crop_image(pixels: np.ndarray, transform: Transform, extent: tuple[int, int]) -> np.ndarray:
    """Return what the centre crop of an image of ``extent`` is of another image (h, w, c) of the same place.

    A smaller one, such as its low resolution, becomes smaller than the crop by the same factor.
    """
    height, width = extent
    top, left, rows, columns = transform.window(height, width)
    down, right = pixels.shape[0] / height, pixels.shape[1] / width
    upper, first = int(top * down), int(left * right)
    part = pixels[upper : upper + max(1, round(rows * down)), first : first + max(1, round(columns * right))]
    share = min(1.0, down, right)
    return resize(part, *(max(1, round(side * share)) for side in height_width(transform.size)))


def mirrored(name: str, value: Any) -> Any:
    """Return the value of field ``name`` for the image mirrored left to right; vectors and words stay."""
    if name == "boxes" and value is not None:
        return [{**each, "box": [1 - each["box"][0] - each["box"][2], *each["box"][1:]]} for each in value]
    if isinstance(value, Tensor) and (value.ndim == 3 or (value.ndim == 2 and not value.is_floating_point())):
        return value.flip(-1)
    return value


def _nearest(length: int, wanted: int) -> np.ndarray:
    """Return which of ``length`` positions are nearest to ``wanted`` ones that divide them evenly."""
    return np.floor((np.arange(wanted) + 0.5) * length / wanted).astype(int)
