"""Conditions as pictures: what a model was asked for, beside what it drew."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from calotype.utils.box_picture import draw_boxes
from calotype.utils.boxes import as_object
from calotype.utils.label_maps import coloured


def condition_pictures(
    fields: Mapping[str, Sequence[Any]], size: tuple[int, int]
) -> Float[Tensor, "n 3 height width"] | None:
    """Return the conditions of n images as pictures of ``size`` in [-1, 1], None where none of them can be shown.

    Shown is the first field that is an image, an image with its mask (grey in the hole), a label map, or boxes.
    """
    for name, values in fields.items():
        pictures = [_picture(name, value, size) for value in values]
        if any(picture is not None for picture in pictures):
            empty = torch.ones(3, *size)
            return torch.stack([empty if picture is None else picture for picture in pictures])
    return None


def _picture(name: str, value: Any, size: tuple[int, int]) -> Float[Tensor, "3 height width"] | None:
    if name == "boxes" and value is not None:
        framed = draw_boxes(np.full((*size, 3), 255, np.uint8), [as_object(each) for each in value])
        return _from_bytes(np.asarray(Image.fromarray(framed).resize((size[1], size[0]), Image.Resampling.BOX)))
    if isinstance(value, tuple):
        image, known = value
        value = torch.where(known >= 0.5, image, torch.zeros_like(image))
    if not isinstance(value, Tensor):
        return None
    if value.ndim == 2 and not value.is_floating_point():
        value = _from_bytes(coloured(value.numpy()))
    if value.ndim != 3 or not value.is_floating_point():
        return None
    colours = value[:3] if len(value) >= 3 else value[:1].expand(3, -1, -1)
    return F.interpolate(colours[None].float(), size, mode="nearest")[0]


def _from_bytes(pixels: np.ndarray) -> Float[Tensor, "3 height width"]:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1
