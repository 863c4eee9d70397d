"""The embedded emoji: 1412 concepts in three drawing styles, captioned, and split by concept.

``embedded/NOTICE.md`` says where the drawings come from and under which licences, ``scripts/build_emoji.py`` makes the
files.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange
from PIL import Image

from calotype.data.image_set import ImageSet, Record
from calotype.data.pixel_format import PixelFormat
from calotype.utils.errors import UserError, nearest
from calotype.utils.files import digest
from calotype.utils.seeds import seed_of

EMBEDDED = Path(__file__).parent / "embedded"
SIZE = 64
COLUMNS = 32
STYLES = ("3d", "flat", "noto")
FACES = "faces"
_ONE_IN = 20

_FAMILIES = {
    r"o'clock$|-thirty$": "clock face",
    r"moon( face)?$": "moon",
    r"^family": "family",
    r"mer(maid|man|person)$": "merperson",
    r"^prince(ss)?$|^person with crown$": "prince",
    r" claus$": "claus",
    r"feeding": "feeding baby",
    r"^busts? in silhouette$": "bust",
    r"^grinning cat|^cat face$": "grinning cat",
    r"with horns$": "face with horns",
    r"^light blue heart$|^heart suit$": "heart",
    r"(speech|anger|thought) (bubble|balloon)$": "speech bubble",
    r"^ewe$|^ram$": "sheep",
    r"^snowman": "snowman",
    r"^globe showing": "globe",
    r"post office$": "post office",
    r"^camera": "camera",
    r"calendar$": "calendar",
    r"(inbox|outbox) tray$": "tray",
    r"mailbox": "mailbox",
    r"banknote$": "banknote",
    r"speaker": "speaker",
    r"^(un)?locked": "padlock",
    r"place medal$": "medal",
}
_PEOPLE = ("man", "woman", "person", "men", "women", "people", "boy", "girl", "child", "old", "older", "and")
_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
_DIRECTIONS = ("left", "right", "up", "down", "leftwards", "rightwards", "left-facing", "right-facing", "closed")
_VARIANTS = frozenset(_PEOPLE + _COLOURS + _DIRECTIONS)


def concept_group(name: str) -> str:
    """Return what is left of a concept's name without what its near-duplicates differ in.

    Gender, age, hair, colour and direction change a drawing little, and so do the hands of a clock: ``woman farmer``,
    ``man farmer`` and ``farmer`` are all ``farmer``, ``green apple`` is ``apple``, ``three-thirty`` is ``clock face``.
    Where a name is nothing but such words (``girl``, ``man: red hair``) the group is ``person``. Expressions of a face
    are what faces are about, and stay apart. Merging too much does no harm: a group is only never split.
    """
    for pattern, group in _FAMILIES.items():
        if re.search(pattern, name):
            return group
    words = name.split(":")[0].split()
    return " ".join(word for word in words if word not in _VARIANTS) or "person"


class EmojiSet(ImageSet):
    """Emoji at 64 px on white, as uint8 RGB.

    Records are named ``style/code point`` (``3d/1f34e``), grouped by ``concept_group``, and have the fields ``name``
    (``red apple``), ``caption`` (``red apple, 3d style``), ``tags`` (a list of words), ``category``, ``class`` (the
    category again), ``subcategory``, ``style`` and ``hexcode``. The images are decoded at the first ``pixels()``, once
    for all sets.
    """

    def __init__(self, source: str, records: Iterable[Record]) -> None:
        self.source, self.records, self.pixel_format = source, tuple(records), PixelFormat()

    def pixels(self, index: int) -> np.ndarray:
        """Return image ``index`` as (64, 64, 3) uint8."""
        name = self.records[index].name
        image: np.ndarray = _images(name.split("/")[0])[_positions()[name]].copy()
        return image

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all embedded images and of this set's records."""
        return digest(_images_digest(), repr(self.records))


class EmojiSplits(NamedTuple):
    """The set to train on and two that ask different questions.

    ``held_out_concepts``: all images of groups that training never sees. ``held_out_pairs``: images in a style that
    their group has in no training image, of concepts that training sees in another style: does it compose?
    3d and flat are the same drawing, so where one of the two is held out its outline was seen, and only the third style
    (noto) is held out in outline as well.
    """

    train: EmojiSet
    held_out_concepts: EmojiSet
    held_out_pairs: EmojiSet


def emoji(category: str | None = None) -> EmojiSplits:
    """Return the embedded emoji, split by concept.

    ``category`` is ``faces`` (Smileys & Emotion without everything named a heart) or a category's name or slug
    (``Animals & Nature``, ``animals-nature``); the splits of a category are subsets of those of the whole.

    Raises:
        UserError: there is no such category.
    """
    wanted = None if category is None else _slug(category)
    known = [FACES, *dict.fromkeys(_slug(record.fields["category"]) for record in _records())]
    if wanted is not None and wanted not in known:
        raise UserError(f"there are no emoji {category!r}: choose from {', '.join(known)}.{nearest(wanted, known)}")
    records = [record for record in _records() if wanted is None or _belongs(record, wanted)]
    source = "emoji" if wanted is None else f"emoji:{wanted}"
    split_of = _split_of()
    return EmojiSplits(
        *(EmojiSet(source, (r for r in records if split_of[r.name] == split)) for split in EmojiSplits._fields)
    )


def emoji_source(text: str) -> EmojiSplits:
    """Return the splits that a source such as ``emoji``, ``emoji:faces`` or ``emoji:animals-nature`` names.

    Raises:
        UserError: ``text`` is not of that form, or there is no such category.
    """
    kind, colon, category = text.partition(":")
    if kind != "emoji":
        raise UserError(f"{text!r} is no emoji source: write emoji or, for example, emoji:{FACES}")
    return emoji(category if colon else None)


def _slug(category: str) -> str:
    return re.sub(r"[^a-z]+", "-", category.lower()).strip("-")


def _belongs(record: Record, wanted: str) -> bool:
    if wanted == FACES:
        return record.fields["category"] == "Smileys & Emotion" and "heart" not in record.fields["name"]
    return _slug(record.fields["category"]) == wanted


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((EMBEDDED / "emoji.json").read_text(encoding="utf-8"))
    return table


def _drawn_in(style: str) -> list[dict[str, Any]]:
    """List the concepts that have an image in ``style``, in the order of its atlases."""
    return [concept for concept in _table()["concepts"] if style in concept["styles"]]


@cache
def _records() -> tuple[Record, ...]:
    return tuple(_record(concept, style) for style in STYLES for concept in _drawn_in(style))


def _record(concept: dict[str, Any], style: str) -> Record:
    fields = {key: value for key, value in concept.items() if key != "styles"}
    fields |= {"style": style, "caption": f"{concept['name']}, {style} style", "class": concept["category"]}
    return Record(f"{style}/{concept['hexcode']}", fields, concept_group(concept["name"]))


@cache
def _split_of() -> dict[str, str]:
    """Map each record's name to its split. Groups are drawn by hash: one in 20 is held out, one in 20 loses a style."""
    styles_of: dict[str, list[set[str]]] = defaultdict(list)
    for concept in _table()["concepts"]:
        styles_of[concept_group(concept["name"])].append(set(concept["styles"]))
    unseen = {group for group in styles_of if seed_of("emoji", "unseen concepts", group) % _ONE_IN == 0}
    lost = {group: _lost_style(group, members) for group, members in styles_of.items() if group not in unseen}

    def split(record: Record) -> str:
        if record.group in unseen:
            return "held_out_concepts"
        return "held_out_pairs" if record.fields["style"] == lost[record.group] else "train"

    return {record.name: split(record) for record in _records()}


def _lost_style(group: str, members: list[set[str]]) -> str | None:
    """Draw the style that a group loses: one that no member has alone, so that each is seen in another."""
    if seed_of("emoji", "unseen pairs", group) % _ONE_IN:
        return None
    spare = [style for style in STYLES if {style} not in members and any(style in styles for styles in members)]
    return spare[seed_of("emoji", "lost style", group) % len(spare)] if spare else None


@cache
def _positions() -> dict[str, int]:
    return {f"{style}/{concept['hexcode']}": i for style in STYLES for i, concept in enumerate(_drawn_in(style))}


@cache
def _images(style: str) -> np.ndarray:
    """Decode a style's atlases to (n, 64, 64, 3) uint8; the last atlas may end in white tiles."""
    atlases = []
    for name in _table()["atlases"][style]:
        with Image.open(EMBEDDED / name) as atlas:
            pixels = np.asarray(atlas.convert("RGB"))
        atlases.append(rearrange(pixels, "(row h) (column w) c -> (row column) h w c", h=SIZE, w=SIZE))
    return np.concatenate(atlases)


@cache
def _images_digest() -> str:
    return digest(*(EMBEDDED / name for style in STYLES for name in _table()["atlases"][style]))
