"""The lines of ``metadata.jsonl``: what a folder says about its images, row by row."""

import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METADATA = "metadata.jsonl"
MAX_METADATA_BYTES = 256 * 2**20
FILE_NAME = "_file_name"


@dataclass(frozen=True)
class Row:
    """One line that is a JSON object with a ``file_name``: where it is (``metadata.jsonl:17``), and what it says.

    ``image`` is the image's name relative to the root, ``entry`` has everything but the ``file_name``.
    """

    where: str
    table: str
    image: str
    entry: dict[str, Any]

    def file(self, name: str) -> str:
        """Return a file that the row names relative to its table, relative to the root (it may lie outside)."""
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.table), name))


@dataclass(frozen=True)
class Tables:
    """The rows of all tables, in order, and the lines that are none, as (where, reason)."""

    rows: list[Row] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def attached(self) -> frozenset[str]:
        """Names of the files that hold fields of images (``segmentation_file_name``) and have no row of their own."""
        named = (
            row.file(value)
            for row in self.rows
            for key, value in row.entry.items()
            if key.endswith(FILE_NAME) and isinstance(value, str)
        )
        return frozenset(named) - {row.image for row in self.rows}

    @property
    def field_folders(self) -> frozenset[str]:
        """Folders that hold such files and no image with a row."""
        return frozenset(map(posixpath.dirname, self.attached)) - {posixpath.dirname(row.image) for row in self.rows}


def read_tables(root: Path, tables: Iterable[str]) -> Tables:
    """Read the ``tables`` under ``root``. Nothing here raises for bad content: it is reported."""
    found = Tables()
    for table in tables:
        try:
            if (root / table).stat().st_size > MAX_METADATA_BYTES:
                found.refused.append((table, f"larger than {MAX_METADATA_BYTES // 2**20} MiB"))
                continue
            data = (root / table).read_bytes().removeprefix(b"\xef\xbb\xbf")
        except OSError as error:
            found.refused.append((table, error.strerror or "cannot be read"))
            continue
        for number, line in _lines(data):
            row = _row(table, number, line)
            if isinstance(row, Row):
                found.rows.append(row)
            else:
                found.refused.append((f"{table}:{number}", row))
    return found


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _row(table: str, number: int, line: bytes) -> Row | str:
    """Return a line as a row, or why it is none."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    try:
        entry = json.loads(text)
        json.dumps(entry, ensure_ascii=False).encode()  # "\\ud800" is valid JSON, but no text
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
        return 'not a JSON object with a "file_name"'
    name = entry.pop("file_name")
    return Row(f"{table}:{number}", table, posixpath.normpath(posixpath.join(posixpath.dirname(table), name)), entry)
