"""What ``calotype data check`` says about a folder before anything is trained on it."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from calotype.data.annotations import EMPTY, NOT_UTF8, TOO_LONG
from calotype.data.folder import FolderScan, scan_folder
from calotype.data.survey import Progress
from calotype.data.transforms import Transform
from calotype.utils.size import Size, height_width, size_text

SIZES = (32, 64, 128, 256, 512, 1024)
TIMED_IMAGES = 32
LISTED = 20


@dataclass(frozen=True)
class FolderReport:
    """A scan with what follows from it for training at ``size``.

    ``suggested_size`` is the largest of ``SIZES`` that at most half the images are smaller than; ``enlarged`` counts
    the images smaller than ``size``. ``cache_bytes`` is the memory for all decoded crops, ``decode_seconds`` the time
    to make them once, on one core, extrapolated from up to ``TIMED_IMAGES``.
    """

    scan: FolderScan
    suggested_size: int
    size: Size
    enlarged: int
    cache_bytes: int
    decode_seconds: float

    def lines(self) -> list[str]:
        """Return the report as text, one fact per line."""
        images = self.scan.images
        return [
            f"{images.source}: {len(images)} images, {len(self.scan.ignored)} other entries left out",
            f"files: {self._counts()}",
            f"pixels: {images.pixel_format}",
            *(f"  {note}" for note in self.scan.notes),
            f"sizes: {self._sizes()}",
            *self._classes(),
            *self._captions(),
            *self._fields(),
            *self._cost(),
            *self._ignored(),
        ]

    def _counts(self) -> str:
        kinds = Counter(str(info) for info in self.scan.infos)
        return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())

    def _sizes(self) -> str:
        areas = sorted(((info.width, info.height) for info in self.scan.infos), key=lambda size: size[0] * size[1])
        low, middle, high = (f"{width}x{height}" for width, height in (areas[0], areas[len(areas) // 2], areas[-1]))
        return f"{low} (smallest), {middle} (median), {high} (largest)"

    def _classes(self) -> list[str]:
        counts = Counter(record.fields["class"] for record in self.scan.images.records if "class" in record.fields)
        if not counts:
            return ["classes: none (two or more sub-folders with images make classes)"]
        shown = ", ".join(f"{name} ({count})" for name, count in counts.most_common(LISTED))
        return [f"classes: {len(counts)}: {shown}{', ...' if len(counts) > LISTED else ''}"]

    def _captions(self) -> list[str]:
        total = len(self.scan.images)
        present = sum("caption" in record.fields for record in self.scan.images.records)
        bad = self.scan.captions
        if not present and not bad:
            return ["captions: none (NAME.txt beside NAME.png, or metadata.jsonl, make captions)"]
        unusable = f"{bad[EMPTY]} empty, {bad[NOT_UTF8]} not UTF-8, {bad[TOO_LONG]} too long"
        return [f"captions: {present} of {total} images, {total - present} without; left out: {unusable}"]

    def _fields(self) -> list[str]:
        images = self.scan.images
        counts = {
            name: sum(record.fields.get(name) is not None for record in images.records)
            for name in images.field_names
            if name not in ("caption", "class")
        }
        told = ", ".join(f"{name} ({count} of {len(images)})" for name, count in counts.items())
        return [f"other fields: {told}"] if told else []

    def _cost(self) -> list[str]:
        height, width = height_width(self.size)
        chosen = f"size: {size_text(self.size)}" + (
            "" if self.size == self.suggested_size else f" ({self.suggested_size} suggested)"
        )
        return [
            f"{chosen}; {self.enlarged} of {len(self.scan.images)} images are smaller and will be enlarged",
            f"memory: {self.cache_bytes / 2**20:.1f} MiB for all images decoded at {width}x{height}",
            f"decoding: about {self.decode_seconds:.2g} s on one core, {os.cpu_count()} cores here",
        ]

    def _ignored(self) -> list[str]:
        ignored = sorted(self.scan.ignored, key=lambda each: ":" not in each[0])  # rows first: they are to be mended
        more = len(ignored) - LISTED
        return [
            *(["left out:"] if ignored else []),
            *(f"  {name}: {reason}" for name, reason in ignored[:LISTED]),
            *([f"  and {more} more"] if more > 0 else []),
        ]


def check_folder(
    path: Path | str, size: Size | None = None, progress: Progress | None = None, *, strict: bool = False
) -> FolderReport:
    """Scan ``path`` and report on training at ``size`` (the suggested one if ``None``).

    Raises:
        UserError: as ``scan_folder``.
    """
    scan = scan_folder(path, progress=progress, strict=strict)
    shorts = [min(info.width, info.height) for info in scan.infos]
    suggested = max((each for each in SIZES if each <= median(shorts)), default=SIZES[0])
    size = size or suggested
    height, width = height_width(size)
    pixel_format = scan.images.pixel_format
    return FolderReport(
        scan=scan,
        suggested_size=suggested,
        size=size,
        enlarged=sum(info.height < height or info.width < width for info in scan.infos),
        cache_bytes=len(shorts) * height * width * pixel_format.channels * np.dtype(pixel_format.dtype).itemsize,
        decode_seconds=_seconds_per_image(scan, Transform(size=size)) * len(shorts),
    )


def _seconds_per_image(scan: FolderScan, transform: Transform) -> float:
    indices: Sequence[int] = (
        np.linspace(0, len(scan.images) - 1, min(TIMED_IMAGES, len(scan.images))).astype(int).tolist()
    )
    start = time.perf_counter()
    for index in indices:
        transform.apply(scan.images.pixels(index))
    return (time.perf_counter() - start) / len(indices)
