"""What a folder says about its images: captions in side-car text files, fields in ``metadata.jsonl``."""

import json
import posixpath
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_CAPTION_BYTES = 4096
MAX_METADATA_BYTES = 256 * 2**20
METADATA = "metadata.jsonl"

EMPTY, NOT_UTF8 = "empty caption", "caption is not UTF-8"
TOO_LONG = f"caption is longer than {MAX_CAPTION_BYTES} bytes"


@dataclass
class Annotations:
    """Fields by image name, and what could not be used as (relative path, reason). ``captions`` counts the reasons."""

    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
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


def read_annotations(root: Path, images: Collection[str], texts: Iterable[str], tables: Iterable[str]) -> Annotations:
    """Read what belongs to the ``images`` under ``root``; all names are relative, with forward slashes.

    ``texts`` are side-cars (``NAME.txt`` beside ``NAME.png``), ``tables`` the ``metadata.jsonl`` files: one JSON object
    per line, with ``file_name`` relative to the table, ``text`` or ``caption``, and any further scalars, which become
    fields. A table's caption wins over a side-car. Nothing here raises for bad content: it is reported.
    """
    found = Annotations()
    by_stem: dict[str, list[str]] = {}
    for image in images:
        by_stem.setdefault(posixpath.splitext(image)[0], []).append(image)
    for text in texts:
        _read_side_car(found, root, text, by_stem.get(posixpath.splitext(text)[0], []))
    known = frozenset(images)
    for table in tables:
        _read_table(found, root, table, known)
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


def _read_table(found: Annotations, root: Path, table: str, images: Collection[str]) -> None:
    try:
        if (root / table).stat().st_size > MAX_METADATA_BYTES:
            found.ignored.append((table, f"larger than {MAX_METADATA_BYTES // 2**20} MiB"))
            return
        lines = (root / table).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        found.ignored.append((table, error.strerror or "cannot be read"))
        return
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        where = f"{table}:{number}"
        if not line.strip():
            continue
        try:
            entry = json.loads(line.decode())
            json.dumps(entry, ensure_ascii=False).encode()  # "\\ud800" is valid JSON, but no text
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            found.ignored.append((where, 'not a JSON object with a "file_name"'))
            continue
        image = posixpath.normpath(posixpath.join(posixpath.dirname(table), entry.pop("file_name")))
        if image not in images:
            found.ignored.append((where, f"no readable image {image!r}"))
        elif image in seen:
            found.ignored.append((where, f"second entry for {image!r}"))
        else:
            seen.add(image)
            _add_entry(found, image, entry, where)


def _add_entry(found: Annotations, image: str, entry: dict[str, Any], where: str) -> None:
    for key in ("text", "caption"):
        value = entry.pop(key, None)
        if isinstance(value, str):
            found.add_caption(image, value, where)
        elif value is not None:
            found.ignored.append((where, f'"{key}" is not text'))
    for key, value in entry.items():
        if isinstance(value, str | int | float | bool):
            found.fields.setdefault(image, {})[key] = value
        elif value is not None:
            found.ignored.append((where, f'"{key}" is not a single value'))
