"""Objects and where they are, as tokens: the layouts of taming-transformers' scene images (arXiv:2105.06458)."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal, NamedTuple

from calotype.conditioner.embedders.tokens import Tokens
from calotype.utils.boxes import FLAGS, WHOLE, Box, Flag, LayoutObject, as_object
from calotype.utils.config import Config
from calotype.utils.errors import UserError, nearest

log = logging.getLogger(__name__)

_BITS: dict[Flag, int] = {flag: 2**bit for bit, flag in enumerate(FLAGS)}


class Layout(NamedTuple):
    """What ``decode`` finds: objects (``box`` without extent where tokens know centres alone), and the crop."""

    objects: list[LayoutObject]
    crop: Box | None


@dataclass(frozen=True, kw_only=True)
class LayoutConfig(Config):
    """A class token and one or two position tokens for each of ``max_objects`` objects, then two for the crop.

    ``tokens`` ids are shared by classes and positions; positions are the nodes of a square grid of ``isqrt(tokens)``
    per side; the last id means "nothing". ``classes`` is the number of classes, or their names. ``position`` is the
    upper left and the lower right corner of the box, or its ``centre``. ``flags`` are told apart by further class ids.
    With ``encode_crop`` boxes are those of the whole image and the crop is told; without it boxes are relative to the
    crop. A box that reaches over the border is ``cut`` there, or, as in the reference, ``shift``-ed inside.
    """

    kind: Literal["layout"] = "layout"
    classes: int | tuple[str, ...]
    max_objects: int = 30
    tokens: int = 8192
    position: Literal["corners", "centre"] = "corners"
    flags: tuple[Flag, ...] = ()
    encode_crop: bool = True
    at_border: Literal["cut", "shift"] = "cut"

    def __post_init__(self) -> None:
        if self.max_objects < 1 or self.class_count < 1:
            raise ValueError(f"classes and max_objects must be at least 1, not {self.classes} and {self.max_objects}")
        if not isinstance(self.classes, int) and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must name each class once")
        if self.tokens < max(4, self.class_count):
            raise ValueError(f"tokens must be at least 4, and {self.class_count} for the classes, not {self.tokens}")

    @property
    def class_count(self) -> int:
        """How many classes there are."""
        return self.classes if isinstance(self.classes, int) else len(self.classes)

    @property
    def length(self) -> int:
        """How many tokens make a layout."""
        return self.max_objects * (3 if self.position == "corners" else 2) + 2 * self.encode_crop

    def check(self, length: int, vocabulary_size: int) -> None:
        """Raise ``ValueError`` where an embedder's ``length`` or ``vocabulary_size`` does not fit."""
        if length != self.length:
            raise ValueError(f"length must be {self.length} for this layout, not {length}")
        if vocabulary_size < self.tokens:
            raise ValueError(f"vocabulary_size must be at least {self.tokens} for this layout, not {vocabulary_size}")

    def build(self, length: int | None = None) -> "LayoutTokens":
        """Make the tokeniser."""
        assert length in (None, self.length)
        return LayoutTokens(self)


class LayoutTokens(Tokens):
    """Layouts to tokens and back, as ``ObjectsBoundingBoxConditionalBuilder`` and ``...CenterPoints...`` make them."""

    def __init__(self, config: LayoutConfig) -> None:
        self.config, self.length = config, config.length
        self.side = math.isqrt(config.tokens)
        self.none = config.tokens - 1
        names = range(config.classes) if isinstance(config.classes, int) else config.classes
        self.names: list[int | str] = list(names)
        self.index = {str(name): index for index, name in enumerate(self.names)}

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is a list of objects (or of mappings with their ``class`` and ``box``)."""
        plain = isinstance(value, Sequence) and not isinstance(value, str)
        return plain and all(isinstance(item, LayoutObject | Mapping) for item in value)

    def empty(self) -> list[int]:
        """Return the tokens of a layout without objects."""
        return self.encode([])

    def vary(self, value: Any, random: Random) -> Any:
        """Return the objects in another order: training has no use for the one they were listed in."""
        return random.sample(value, len(value)) if self.takes(value) else value

    def encode(
        self, value: Sequence[Any], crop: Box = WHOLE, flip: bool = False, shuffle: Random | None = None
    ) -> list[int]:
        """Return ``length`` tokens for objects of the whole image, seen through ``crop``, then mirrored by ``flip``.

        Only the first ``max_objects`` are kept, ``shuffle``-d where a generator is given; those that the crop does not
        show are left out.

        Raises:
            UserError: a class that is not known, or something that is no box.
        """
        objects = [self._object(item) for item in value]
        if len(objects) > self.config.max_objects:
            log.warning("only %d of %d objects fit into the layout", self.config.max_objects, len(objects))
        objects = objects[: self.config.max_objects]
        if shuffle is not None:
            shuffle.shuffle(objects)
        frame = WHOLE if self.config.encode_crop else crop
        seen = [replace(item, box=self._seen(item.box, frame, flip)) for item in objects if item.box.overlaps(crop)]
        tokens = [token for item in seen for token in (self._class_token(item), *self._position_tokens(item.box))]
        tokens += [self.none] * (self.length - 2 * self.config.encode_crop - len(tokens))
        return tokens + (self._corners(crop.flipped() if flip else crop) if self.config.encode_crop else [])

    def decode(self, tokens: Sequence[int]) -> Layout:
        """Return the objects and the crop of a layout, as exact as its grid."""
        if len(tokens) != self.length:
            raise ValueError(f"a layout has {self.length} tokens, not {len(tokens)}")
        end, step = self.length - 2 * self.config.encode_crop, 3 if self.config.position == "corners" else 2
        groups = [tokens[start : start + step] for start in range(0, end, step)]
        objects = [self._decoded(group) for group in groups if group[0] != self.none]
        return Layout(objects, self._box(*tokens[end:]) if self.config.encode_crop else None)

    def token_of(self, x: float, y: float) -> int:
        """Return the id of the grid's node nearest to a point (relative to the image; halves go to even nodes)."""
        column, row = (round(value * (self.side - 1)) for value in (x, y))
        return row * self.side + column

    def point_of(self, token: int) -> tuple[float, float]:
        """Return the node (x, y) of an id."""
        row, column = divmod(token, self.side)
        return column / (self.side - 1), row / (self.side - 1)

    def _object(self, value: Any) -> LayoutObject:
        item = as_object(value)
        if str(item.label) not in self.index:
            known = "" if isinstance(self.config.classes, int) else nearest(str(item.label), self.index)
            raise UserError(f"class {str(item.label)!r} of the layout is unknown.{known}")
        return item

    def _seen(self, box: Box, frame: Box, flip: bool) -> Box:
        box = box.within(frame)
        x, y = min(max(box.x, 0.0), 1.0), min(max(box.y, 0.0), 1.0)
        lost = (x - box.x, y - box.y) if self.config.at_border == "cut" else (0.0, 0.0)
        box = Box(x, y, min(box.width - lost[0], 1 - x), min(box.height - lost[1], 1 - y))
        return box.flipped() if flip else box

    def _class_token(self, item: LayoutObject) -> int:
        bits = sum(_BITS[flag] for flag in self.config.flags if flag in item.flags)
        token = self.index[str(item.label)] + self.config.class_count * bits
        if token >= self.none:
            raise UserError(f"class {str(item.label)!r} with its flags is beyond the {self.config.tokens} tokens")
        return token

    def _position_tokens(self, box: Box) -> list[int]:
        if self.config.position == "corners":
            return self._corners(box)
        return [self.token_of(box.x + box.width / 2, box.y + box.height / 2)]

    def _corners(self, box: Box) -> list[int]:
        return [self.token_of(box.x, box.y), self.token_of(box.x + box.width, box.y + box.height)]

    def _decoded(self, group: Sequence[int]) -> LayoutObject:
        bits, index = divmod(group[0], self.config.class_count)
        flags = frozenset(flag for flag in self.config.flags if bits & _BITS[flag])
        return LayoutObject(self.names[index], self._box(group[1], group[-1]), flags)

    def _box(self, first: int, second: int) -> Box:
        (left, top), (right, bottom) = self.point_of(first), self.point_of(second)
        return Box(left, top, right - left, bottom - top)
