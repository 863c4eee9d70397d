"""Random masks of what is known of an image: for training to fill in the rest."""

import math
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from calotype.utils.config import Config
from calotype.utils.seeds import python_random

Kind = Literal["strokes", "boxes", "margins", "nothing"]

# As shares of the shorter side, those of the wide masks of arXiv:2109.07161 at 256 pixels.
_STROKES, _CORNERS, _STROKE_LENGTH, _STROKE_WIDTH = (1, 5), (1, 5), (0.04, 0.8), (0.02, 0.4)
_BOXES, _BOX_SIDE = (1, 4), (0.12, 0.6)
_MARGIN = (0.1, 0.6)


@dataclass(frozen=True, kw_only=True)
class RandomMasks(Config):
    """Holes of several kinds; the numbers say in which proportion they are drawn.

    ``strokes`` are bent lines of a wide brush (Sec. 3.2 of arXiv:1806.03589, as wide as the wide ones of
    arXiv:2109.07161), ``boxes`` are up to four rectangles, and ``margins`` leave one rectangle: to draw on beyond an
    image. In the last kind ``nothing`` is known, as in windows of a large image that lie within its hole; all others
    leave something, and there is no mask without a hole.
    """

    strokes: float = 0.5
    boxes: float = 0.25
    margins: float = 0.2
    nothing: float = 0.05

    def __post_init__(self) -> None:
        for name, share in self.shares.items():
            if not 0 <= share < math.inf:
                raise ValueError(f"{name} must be at least 0, not {share}")
        if not sum(self.shares.values()):
            raise ValueError("strokes, boxes, margins, nothing: one must be above 0")

    @property
    def shares(self) -> dict[Kind, float]:
        """The proportion of each kind, by its name."""
        return {"strokes": self.strokes, "boxes": self.boxes, "margins": self.margins, "nothing": self.nothing}

    def draw(self, height: int, width: int, generator: torch.Generator) -> Float[Tensor, "1 h w"]:
        """Return a mask, 1 where a pixel is known and 0 in the hole; it depends on the generator's next draw alone.

        Raises:
            ValueError: one pixel cannot be known in part.
        """
        if height * width < 2:
            raise ValueError(f"a mask needs at least two pixels, not {width} x {height}")
        random = python_random(generator)
        kind = random.choices(list(self.shares), list(self.shares.values()))[0]
        if kind == "nothing":
            return torch.zeros(1, height, width)
        while True:
            picture = Image.new("1", (width, height), 1)
            {"strokes": _draw_strokes, "boxes": _draw_boxes, "margins": _draw_margins}[kind](picture, random)
            known = np.asarray(picture)
            if known.any() and not known.all():
                return torch.from_numpy(known.astype(np.float32))[None]


def _draw_strokes(picture: Image.Image, random: Random) -> None:
    """Walk with a brush of one width, turning by up to 2/5 pi, now to the left and now to the right."""
    draw, short = ImageDraw.Draw(picture), min(picture.size)
    for _ in range(random.randint(*_STROKES)):
        x, y = random.uniform(0, picture.width), random.uniform(0, picture.height)
        angle, brush = random.uniform(0, 2 * math.pi), max(1, round(random.uniform(*_STROKE_WIDTH) * short))
        for corner in range(random.randint(*_CORNERS)):
            angle += (-1) ** corner * random.uniform(0, 0.4 * math.pi)
            length = random.uniform(*_STROKE_LENGTH) * short
            start, x, y = (x, y), x + length * math.cos(angle), y + length * math.sin(angle)
            draw.line([start, (x, y)], fill=0, width=brush)
            for end in (start, (x, y)):
                draw.circle(end, brush / 2, fill=0)


def _draw_boxes(picture: Image.Image, random: Random) -> None:
    short = min(picture.size)
    for _ in range(random.randint(*_BOXES)):
        width, height = (max(1, round(random.uniform(*_BOX_SIDE) * short)) for _ in range(2))
        left, top = random.randint(0, picture.width - width), random.randint(0, picture.height - height)
        picture.paste(0, (left, top, left + width, top + height))


def _draw_margins(picture: Image.Image, random: Random) -> None:
    """Leave a rectangle: along each axis a margin before it, after it, on both sides or on neither."""
    kept = []
    for length in picture.size:
        before, after = random.choice([(1, 0), (0, 1), (1, 1), (0, 0)])
        margin = round(random.uniform(*_MARGIN) * length)
        cut = round(random.random() * margin) if before and after else margin * before
        kept.append((cut, length - (margin - cut if after else 0)))
    (left, right), (top, bottom) = kept
    known = Image.new("1", picture.size, 0)
    known.paste(1, (left, top, right, bottom))
    picture.paste(known)
