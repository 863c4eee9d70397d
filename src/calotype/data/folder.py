"""A folder of the user's own pictures as an image set: nothing to write, nothing silently dropped."""

import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from calotype.data.annotations import Annotations, read_annotations
from calotype.data.attachments import FieldFile, add_attachments, check_forms, read_attachment
from calotype.data.field_values import BadValue
from calotype.data.image_set import ImageSet, Record
from calotype.data.survey import Common, Progress, find_common, narrowed, survey
from calotype.data.tables import METADATA, Tables, read_tables
from calotype.utils.errors import UserError
from calotype.utils.files import digest, lies_in
from calotype.utils.images import WHITE, ImageError, ImageInfo, read_image

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif")
SUFFIXES = (*PICTURES, ".tif", ".tiff", ".npy")
MIN_IMAGES = 8


class ImageFolder(ImageSet):
    """The readable images under a folder, as ``scan_folder`` found them; pixels are decoded on demand.

    ``infos`` describes the files in the order of ``records``.
    """

    def __init__(self, root: Path, records: Sequence[Record], common: Common, background: tuple[int, int, int]) -> None:
        self.source, self.records, self.pixel_format = str(root), tuple(records), common.pixel_format
        self.root, self.background, self.alpha = root, background, common.alpha
        self.infos = tuple(facts.info for facts in common.facts.values())
        self.digests = tuple(facts.digest for facts in common.facts.values())

    def pixels(self, index: int) -> np.ndarray:
        """Return image ``index`` in ``pixel_format``: grey repeated to 3 channels, 16 bits scaled by 1/257, if need be.

        Raises:
            ImageError: the file has gone or changed since the scan.
        """
        path = self.root / self.records[index].name
        pixels = narrowed(read_image(path, self.background, alpha=self.alpha), self.pixel_format)
        if pixels.shape[2] != self.pixel_format.channels or str(pixels.dtype) != self.pixel_format.dtype:
            raise ImageError(path, "has changed since the folder was scanned")
        return pixels

    def value(self, index: int, name: str) -> Any:
        """Return field ``name`` of image ``index``, read from its file where it has one; None where it is missing.

        Raises:
            ImageError: the file has gone or changed since the scan.
        """
        value = self.records[index].fields.get(name)
        if not isinstance(value, FieldFile):
            return value
        try:
            return read_attachment(self.root / value.name, name, self.pixel_format)
        except BadValue as error:
            raise ImageError(self.root / value.name, f"has changed since the folder was scanned: {error}") from None

    def info(self, index: int) -> ImageInfo:
        """Return what the file of image ``index`` is."""
        return self.infos[index]

    @cached_property
    def fingerprint(self) -> str:
        """A hash over names, file contents, fields and the background: independent of place and of file times."""
        entries = [[r.name, content, r.fields] for r, content in zip(self.records, self.digests, strict=True)]
        return digest(json.dumps([self.background, entries], sort_keys=True, default=vars))


@dataclass(frozen=True)
class FolderScan:
    """What a folder holds: its images, the files left out as (relative path, reason), and what was done to the others.

    ``infos`` describes the files in the order of ``images.records``; ``captions`` counts unusable captions by reason;
    ``duplicates`` is the number of images that are byte for byte equal to an earlier one.
    """

    images: ImageFolder
    ignored: list[tuple[str, str]]
    notes: list[str]
    infos: tuple[ImageInfo, ...]
    captions: Counter[str]
    duplicates: int


def scan_folder(
    path: Path | str,
    background: tuple[int, int, int] = WHITE,
    progress: Progress | None = None,
    *,
    strict: bool = False,
) -> FolderScan:
    """Find the images under ``path``, decode every one of them once, and read their captions, classes and other fields.

    Sub-folders are searched, hidden files and links that leave the folder are not. The first sub-folder of an image is
    its ``class`` where at least two sub-folders hold images; captions and other fields are as in ``read_annotations``.
    Channels, depth and range are those of the files, as ``find_common`` and ``find_range`` choose them; files that do
    not fit are left out. ``progress(done, total)`` is called after each file. A record's group is its name, or the name
    of the first of several equal files. What cannot be used is left out and reported; ``strict`` ends there instead.

    Raises:
        UserError: no such folder, or fewer than ``MIN_IMAGES`` readable images in it; or, if ``strict``, a file that
            cannot be read or a row that is wrong: names the first.
    """
    root = Path(path)
    if not root.exists():
        raise UserError(f"{root} does not exist; give a folder of images")
    if not root.is_dir():
        raise UserError(f"{root} is a file; give the folder that holds the images")
    files = _list_files(root)
    tables = read_tables(root, files.tables)
    names = _images(files, tables)
    found = survey(root, names, background, progress)
    unreadable = [(name, result.reason) for name, result in found.items() if isinstance(result, ImageError)]
    readable = {name: result for name, result in found.items() if not isinstance(result, ImageError)}
    _require_enough(root, len(readable), unreadable or files.ignored)
    common = find_common(readable, background)
    unreadable += common.left_out
    _require_enough(root, len(common.facts), unreadable)

    annotations = read_annotations(root, common.facts.keys(), files.texts, tables)
    add_attachments(annotations, root, {name: each.info for name, each in common.facts.items()}, common.pixel_format)
    check_forms(annotations)
    if strict and (wrong := [*unreadable, *annotations.ignored]):
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{root / wrong[0][0]}: {wrong[0][1]}{more}")
    digests = [facts.digest for facts in common.facts.values()]
    images = ImageFolder(root, _records(list(common.facts), digests, annotations), common, background)
    duplicates = len(digests) - len(set(digests))
    ignored = sorted([*files.ignored, *unreadable, *annotations.ignored])
    notes = [*common.notes, *_notes(images, duplicates)]
    return FolderScan(images, ignored, notes, images.infos, annotations.captions, duplicates)


@dataclass
class _Files:
    """Relative names of what a folder holds, by use, each list sorted."""

    images: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    ignored: list[tuple[str, str]] = field(default_factory=list)


def _list_files(root: Path) -> _Files:
    files = _Files()
    for path in _walk(root, files.ignored):
        name = path.relative_to(root).as_posix()
        suffix = posixpath.splitext(name)[1].lower()
        reason = _refusal(root, path)
        if reason:
            files.ignored.append((_printable(name), reason))
        elif suffix in SUFFIXES:
            files.images.append(name)
        elif suffix == ".txt":
            files.texts.append(name)
        elif path.name == METADATA:
            files.tables.append(name)
        else:
            files.ignored.append((name, f"{suffix} files are not read" if suffix else "no file name extension"))
    for names in (files.images, files.texts, files.tables):
        names.sort()
    return files


def _images(files: _Files, tables: Tables) -> list[str]:
    """Return the names of what may be images: no fields, and nothing without a row that lies among fields."""
    attached, folders, rows = tables.attached, tables.field_folders, {row.image for row in tables.rows}
    names = [name for name in files.images if name not in attached]
    stray = {name for name in names if posixpath.dirname(name) in folders and name not in rows}
    files.ignored += [(name, "lies among fields of images, and no row names it") for name in sorted(stray)]
    return [name for name in names if name not in stray]


def _walk(root: Path, ignored: list[tuple[str, str]]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        ignored.append((_printable(os.path.relpath(error.filename, root)), error.strerror or "cannot be listed"))

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (Path(folder, name) for name in [*links, *names] if not name.startswith("."))


def _refusal(root: Path, path: Path) -> str:
    """Why ``path`` must not be opened, or ``""``."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "file name is not UTF-8"
    if path.is_symlink() and not lies_in(path, root):
        return "link that leaves the folder"
    if not path.is_file():
        return "link to a folder, not followed" if path.is_dir() else "not a regular file"
    return ""


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _require_enough(root: Path, count: int, ignored: Sequence[tuple[str, str]]) -> None:
    if count >= MIN_IMAGES:
        return
    first = f"; {len(ignored)} files were left out, the first is {ignored[0][0]}: {ignored[0][1]}" if ignored else ""
    holds = f"holds only {count} readable images" if count else "holds no readable image"
    raise UserError(f"{root} {holds}, and {MIN_IMAGES} are the fewest to train on{first}")


def _records(names: Sequence[str], digests: Sequence[str], annotations: Annotations) -> list[Record]:
    folders = {name.split("/")[0] for name in names if "/" in name}
    first: dict[str, str] = {}
    records = []
    for name, content in zip(names, digests, strict=True):
        fields = {"class": name.split("/")[0]} if "/" in name and len(folders) >= 2 else {}
        group = first.setdefault(content, name)
        records.append(Record(name, fields | annotations.fields.get(name, {}), group))
    return records


def _notes(images: ImageFolder, duplicates: int) -> list[str]:
    infos, chosen = images.infos, images.pixel_format
    narrow = sum(info.dtype == "uint16" for info in infos) if chosen.dtype == "uint8" else 0
    repeated = sum(info.channels == 1 for info in infos) if chosen.channels == 3 else 0
    kept = sum(info.alpha == "kept" for info in infos)
    converted = Counter(info.stored for info in infos if info.stored != info.dtype)
    counts = {
        "exact copies of another file (never on both sides of a split)": duplicates,
        "with further frames or pages (the first is used)": sum(info.animated for info in infos),
        "turned upright, as their EXIF says": sum(info.exif_rotated for info in infos),
        f"with transparency, laid over the colour {images.background}": sum(info.alpha == "blended" for info in infos),
        "with a last channel that is tagged as opacity but does not look like it, kept as a channel": kept,
        **{f"of {stored}, read as float32": count for stored, count in converted.items()},
        "16 bits deep, scaled to 8 bits to match the others": narrow,
        "grey, repeated to 3 channels to match the others": repeated,
    }
    return [f"{count} of {len(infos)} files: {what}" for what, count in counts.items() if count]
