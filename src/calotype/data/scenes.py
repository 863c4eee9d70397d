"""Scenes of several objects, composed from the embedded emoji: images with captions, boxes and label maps."""

import colorsys
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from calotype.data.cutouts import cutouts, fitted
from calotype.data.tables import METADATA
from calotype.utils.box_picture import draw_boxes, enlarged
from calotype.utils.boxes import Box, LayoutObject
from calotype.utils.errors import UserError
from calotype.utils.files import atomic_folder
from calotype.utils.label_maps import coloured, label_image
from calotype.utils.progress import progress
from calotype.utils.seeds import seed_of
from calotype.utils.size import Size, height_width, size_text

CONCEPTS = (
    "red apple",
    "dog",
    "automobile",
    "deciduous tree",
    "house",
    "sunflower",
    "tropical fish",
    "frog",
    "penguin",
    "elephant",
)
"""The classes of the objects, each an emoji's name."""
LABELS = ("wall", "sky", "ground", *CONCEPTS)
"""What the numbers in a label map mean."""
MAPS = "maps"
MOST_OBJECTS = 8

_EXTENT = (0.26, 0.5)
_OVERLAP = 0.15
_TRIES = 30


@dataclass(frozen=True)
class Scene:
    """A picture with what is in it: boxes from the back to the front, labels as in ``LABELS``."""

    pixels: UInt8[np.ndarray, "h w 3"]
    labels: Int[np.ndarray, "h w"]
    objects: tuple[LayoutObject, ...]
    caption: str


def compose_scene(*key: int | str, size: Size = 64, objects: tuple[int, int] = (1, 4)) -> Scene:
    """Compose the scene of ``key``: ``objects`` (fewest, most) of ``CONCEPTS`` in one style on a wall or in the open.

    Their longer sides are a quarter to a half of the image's shorter one. No two share more than 15 % of the smaller
    box; where no place is found for one, it is left out. Those that stand lower are in front.
    """
    random = Random(seed_of("scene", *key))
    height, width = height_width(size)
    pixels, labels, place = _background(random, height, width)
    canvas, style = Image.fromarray(pixels), random.randrange(len(cutouts(CONCEPTS[0])))
    seen = []
    for item in sorted(_placed(random, (height, width), style, random.randint(*objects)), key=lambda item: item.bottom):
        canvas.paste(item.drawing, item.corner, item.drawing)
        left, top = item.corner
        region = labels[top : item.bottom, left : left + item.drawing.width]
        region[np.asarray(item.drawing.getchannel("A")) >= 128] = LABELS.index(item.name)
        edges = (edge / side for edge, side in zip(item.box, (width, height) * 2, strict=True))
        seen.append(LayoutObject(item.name, Box(*(round(edge, 4) for edge in edges))))
    return Scene(np.asarray(canvas), labels, tuple(seen), f"{describe(seen)}, {place}")


def describe(objects: Sequence[LayoutObject]) -> str:
    """Return where the objects are, from left to right: ``a dog to the left of a house, a house above a frog``."""
    ordered = sorted(objects, key=lambda item: item.box.centre)
    names = [f"{'an' if str(item.label)[0] in 'aeiou' else 'a'} {item.label}" for item in ordered]
    pairs = [
        f"{name} {_where(item.box, other.box)} {other_name}"
        for (item, name), (other, other_name) in pairwise(zip(ordered, names, strict=True))
    ]
    return ", ".join(pairs or names)


def write_scenes(out: Path, count: int, *, size: Size = 64, objects: tuple[int, int] = (1, 4), seed: int = 0) -> None:
    """Write ``count`` scenes as a folder to train on: images, label maps and ``metadata.jsonl``; all of it or nothing.

    Every byte follows from the arguments. Scene i of one seed is the same for any ``count``.

    Raises:
        UserError: ``out`` holds something already, the size is not between 16 and 1024, or the disk is full.
    """
    if not all(16 <= side <= 1024 for side in height_width(size)):
        raise UserError(f"the size of scenes must be between 16 and 1024, not {size_text(size)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: give a new folder, or remove it first")
    with atomic_folder(out) as folder, progress("composing", count, unit="scenes") as bar:
        (folder / MAPS).mkdir()
        rows = []
        for number in range(count):
            scene = compose_scene(seed, number, size=size, objects=objects)
            name = f"{number:06}.png"
            Image.fromarray(scene.pixels).save(folder / name)
            label_image(scene.labels).save(folder / MAPS / name)
            rows.append(
                {
                    "file_name": name,
                    "text": scene.caption,
                    "boxes": [item.as_field() for item in scene.objects],
                    "segmentation_file_name": f"{MAPS}/{name}",
                }
            )
            bar.advance(1)
        (folder / METADATA).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def contact_sheet(
    count: int, *, size: Size = 64, objects: tuple[int, int] = (1, 4), seed: int = 0, columns: int = 6
) -> UInt8[np.ndarray, "height width 3"]:
    """Return a picture of the first scenes, with their boxes, each above its label map."""
    tiles = [
        np.concatenate([draw_boxes(scene.pixels, scene.objects), enlarged(coloured(scene.labels))])
        for scene in (compose_scene(seed, number, size=size, objects=objects) for number in range(count))
    ]
    tiles += [np.full_like(tiles[0], 255)] * (-count % columns)
    return np.concatenate([np.concatenate(tiles[row : row + columns], 1) for row in range(0, len(tiles), columns)])


def _background(random: Random, height: int, width: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Draw a wall of one colour, or sky above ground: pixels, labels, and words for it."""
    pixels, labels = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.int64)
    if random.random() < 0.5:
        pixels[:], labels[:] = _colour(random, (0.0, 1.0), (0.1, 0.35)), LABELS.index("wall")
        return pixels, labels, "before a wall"
    horizon = round(height * random.uniform(0.35, 0.75))
    pixels[:horizon], labels[:horizon] = _colour(random, (0.5, 0.6), (0.2, 0.45)), LABELS.index("sky")
    pixels[horizon:], labels[horizon:] = _colour(random, (0.1, 0.35), (0.35, 0.6)), LABELS.index("ground")
    return pixels, labels, "under the sky"


def _colour(random: Random, hues: tuple[float, float], saturations: tuple[float, float]) -> tuple[int, ...]:
    colour = colorsys.hsv_to_rgb(random.uniform(*hues), random.uniform(*saturations), random.uniform(0.8, 1.0))
    return tuple(round(255 * channel) for channel in colour)


class _Placed(NamedTuple):
    name: str
    drawing: Image.Image
    corner: tuple[int, int]

    @property
    def box(self) -> Box:
        """In pixels."""
        return Box(*map(float, (*self.corner, *self.drawing.size)))

    @property
    def bottom(self) -> int:
        return self.corner[1] + self.drawing.height

    def hides(self, other: "_Placed") -> bool:
        smaller = min(item.drawing.width * item.drawing.height for item in (self, other))
        return self.box.shared(other.box) > _OVERLAP * smaller


def _placed(random: Random, size: tuple[int, int], style: int, count: int) -> list[_Placed]:
    """Draw ``count`` objects of different concepts, and a place for each."""
    height, width = size
    placed: list[_Placed] = []
    for name in random.sample(CONCEPTS, count):
        drawing = cutouts(name)[style]
        if random.random() < 0.5:
            drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        drawing = fitted(drawing, round(min(height, width) * random.uniform(*_EXTENT)))
        for _ in range(_TRIES):
            corner = random.randint(0, width - drawing.width), random.randint(0, height - drawing.height)
            item = _Placed(name, drawing, corner)
            if not any(item.hides(other) for other in placed):
                placed.append(item)
                break
    return placed


def _where(box: Box, other: Box) -> str:
    (x, y), (other_x, other_y) = box.centre, other.centre
    if other_x - x >= abs(other_y - y):
        return "to the left of"
    return "above" if y < other_y else "below"
