"""The embedded emoji without their white ground, to be laid over anything."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from calotype.data.emoji import STYLES, emoji
from calotype.utils.errors import UserError, nearest

_WHITE, _GROUND = 236, 128


@cache
def cutouts(name: str) -> tuple[Image.Image, ...]:
    """Return the drawings of the concept ``name`` in the styles that training sees, in order, as RGBA of 64 px.

    Raises:
        UserError: there is no such concept.
    """
    train = emoji().train
    found = {record.name.split("/")[0]: i for i, record in enumerate(train.records) if record.fields["name"] == name}
    if not found:
        raise UserError(f"no emoji is called {name!r}.{nearest(name, (r.fields['name'] for r in train.records))}")
    return tuple(_cut_out(train.pixels(found[style])) for style in STYLES if style in found)


def fitted(cutout: Image.Image, extent: int) -> Image.Image:
    """Return a drawing cropped to what is seen of it, its longer side about ``extent`` pixels; ``cutout`` is RGBA."""
    drawing = cutout.crop(_seen(cutout))
    scale = extent / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    # resized with premultiplied colours: what lies under transparent pixels does not bleed into the edge
    small = drawing.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    return small.crop(_seen(small))


def _cut_out(pixels: np.ndarray) -> Image.Image:
    """Flood the white from the border inwards, and one pixel further: the edge is mixed with white."""
    white = np.pad((pixels.min(axis=2) >= _WHITE).astype(np.uint8), 1, constant_values=1)
    flooded = Image.fromarray(white).copy()  # the original cannot be drawn on
    ImageDraw.floodfill(flooded, (0, 0), _GROUND)
    opacity = Image.fromarray(np.where(np.asarray(flooded) == _GROUND, 0, 255).astype(np.uint8))
    opacity = opacity.filter(ImageFilter.MinFilter(3)).crop((1, 1, 1 + pixels.shape[1], 1 + pixels.shape[0]))
    drawing = Image.fromarray(pixels)
    drawing.putalpha(opacity)
    return drawing


def _seen(drawing: Image.Image) -> tuple[int, int, int, int]:
    """Return the box (left, top, right, bottom) around the pixels that are at least half opaque."""
    box = drawing.getchannel("A").point(lambda opacity: 255 * (opacity >= _GROUND)).getbbox()
    return box or (0, 0, *drawing.size)
