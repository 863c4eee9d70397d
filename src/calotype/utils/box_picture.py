"""Boxes drawn and labelled over a picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from calotype.utils.boxes import LayoutObject
from calotype.utils.label_maps import coloured

LEAST_SIDE = 192


def draw_boxes(
    pixels: UInt8[np.ndarray, "h w channels"], objects: Sequence[LayoutObject]
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the picture with a frame and a name for each object, one colour per class.

    Pictures of which the shorter side is under ``LEAST_SIDE`` are enlarged by a whole number.
    """
    names = dict.fromkeys(str(item.label) for item in objects)
    colours = coloured(np.arange(len(names))[None])[0] // 3 * 2  # darker: names are written in white
    colour_of = dict(zip(names, map(tuple, colours.tolist()), strict=True))
    picture = Image.fromarray(enlarged(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default_imagefont()
    for item in objects:
        left, top, wide, high = (edge * side for edge, side in zip(item.box, picture.size * 2, strict=True))
        name = str(item.label)
        colour = colour_of[name]
        right, bottom = max(left + wide - 1, left), max(top + high - 1, top)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)
        x = min(max(left, 0), max(picture.width - font.getlength(name) - 3, 0))
        y = min(max(top, 0), picture.height - 12)
        draw.rectangle((x, y, x + font.getlength(name) + 2, y + 11), fill=colour)
        draw.text((x + 2, y), name, fill=(255, 255, 255), font=font)
    return np.asarray(picture)


def enlarged(pixels: UInt8[np.ndarray, "h w channels"]) -> UInt8[np.ndarray, "height width channels"]:
    """Return the picture, each of its pixels repeated as often as its shorter side needs to reach ``LEAST_SIDE``."""
    times = -(-LEAST_SIDE // min(pixels.shape[:2]))
    return np.ascontiguousarray(pixels.repeat(times, axis=0).repeat(times, axis=1))
