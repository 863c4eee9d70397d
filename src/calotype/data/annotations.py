"""What a folder says about its images: captions in side-car text files, fields in ``metadata.jsonl``."""

import json
import posixpath
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from calotype.data.field_values import IN_ROWS, MAX_SHOWN, BadValue, check_name, check_value
from calotype.data.tables import FILE_NAME, Row, Tables

MAX_CAPTION_BYTES = 4096

EMPTY, NOT_UTF8 = "empty caption", "caption is not UTF-8"
TOO_LONG = f"caption is longer than {MAX_CAPTION_BYTES} bytes"


class Attachment(NamedTuple):
    """A field of an image that is in a file of its own; ``where`` is the row that says so."""

    where: str
    image: str
    field: str
    file: str


@dataclass
class Annotations:
    """Fields by image name, and what could not be used as (relative path, reason). ``captions`` counts the reasons.

    ``rows`` says where each image's row is, ``attachments`` are fields that are still to be read; ``forms`` says what
    those that have been read are.
    """

    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    attachments: list[Attachment] = field(default_factory=list)
    forms: dict[tuple[str, str], str] = field(default_factory=dict)
    ignored: list[tuple[str, str]] = field(default_factory=list)
    captions: Counter[str] = field(default_factory=Counter)

    def add_caption(self, image: str, text: str, where: str) -> None:
        """Give ``image`` a caption; one that is empty or too long is reported instead."""
        text = text.strip()
        if not text:
            self.refuse_caption(where, EMPTY)
        elif len(text.encode()) > MAX_CAPTION_BYTES:
            self.refuse_caption(where, TOO_LONG)
        else:
            self.fields.setdefault(image, {})["caption"] = text

    def refuse_caption(self, where: str, reason: str) -> None:
        """Report the caption found at ``where`` as unusable."""
        self.captions[reason] += 1
        self.ignored.append((where, reason))


def read_annotations(root: Path, images: Collection[str], texts: Iterable[str], tables: Tables) -> Annotations:
    """Read what belongs to the ``images`` under ``root``; all names are relative, with forward slashes.

    ``texts`` are side-cars (``NAME.txt`` beside ``NAME.png``). A row of a table has ``text`` or ``caption``, and any
    further fields: scalars, ``boxes``, vectors, and files (``segmentation_file_name``). A table's caption wins over a
    side-car. Nothing here raises for bad content: it is reported.
    """
    found = Annotations()
    by_stem: dict[str, list[str]] = {}
    for image in images:
        by_stem.setdefault(posixpath.splitext(image)[0], []).append(image)
    for text in texts:
        _read_side_car(found, root, text, by_stem.get(posixpath.splitext(text)[0], []))
    found.ignored += tables.refused
    known = frozenset(images)
    for row in tables.rows:
        if row.image not in known:
            found.ignored.append((row.where, f"no readable image {row.image!r}"))
        elif row.image in found.rows:
            found.ignored.append((row.where, f"second entry for {row.image!r}"))
        else:
            found.rows[row.image] = row.where
            _add_row(found, row)
    return found


def _read_side_car(found: Annotations, root: Path, name: str, images: list[str]) -> None:
    if not images:
        found.ignored.append((name, "no image of this name"))
        return
    try:
        with (root / name).open("rb") as file:
            data = file.read(2 * MAX_CAPTION_BYTES)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # a long caption may have been cut within a character
        found.refuse_caption(name, TOO_LONG if len(data) > MAX_CAPTION_BYTES else NOT_UTF8)
    except OSError as error:
        found.refuse_caption(name, error.strerror or "cannot be read")
    else:
        for image in images:
            found.add_caption(image, text, name)


def _add_row(found: Annotations, row: Row) -> None:
    entry = dict(row.entry)
    for key in ("text", "caption"):
        value = entry.pop(key, None)
        if isinstance(value, str):
            found.add_caption(row.image, value, row.where)
        elif value is not None:
            found.ignored.append((row.where, f'"{key}" is not text'))
    for key, value in entry.items():
        if value is None:
            continue
        try:
            check_name(key.removesuffix(FILE_NAME))
            if key.endswith(FILE_NAME):
                found.attachments.append(_attachment(row, key, value))
            else:
                found.fields.setdefault(row.image, {})[key] = check_value(key, value)
        except BadValue as error:
            found.ignored.append((row.where, f"{json.dumps(key[:MAX_SHOWN], ensure_ascii=False)} {error}"))


def _attachment(row: Row, key: str, value: Any) -> Attachment:
    if not isinstance(value, str) or not value or "\0" in value:
        raise BadValue("is not the name of a file")
    if (name := key.removesuffix(FILE_NAME)) in IN_ROWS:
        raise BadValue(f'must not be a file; give "{name}" in the row itself')
    file = row.file(value)
    if posixpath.isabs(value) or file.startswith(".."):
        raise BadValue(f"leaves the folder: {value!r}")
    return Attachment(row.where, row.image, name, file)
