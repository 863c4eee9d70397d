"""What the user named as data, opened and split: a folder of images, or the embedded emoji."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from calotype.data.emoji import emoji_source
from calotype.data.folder import FolderScan, scan_folder
from calotype.data.image_set import ImageSet
from calotype.data.pixel_format import PixelFormat
from calotype.data.splits import split
from calotype.utils.progress import progress

log = logging.getLogger("calotype")


@dataclass(frozen=True)
class Source:
    """Images to train on, images kept apart, and what to tell the user about them.

    ``held_out`` is what validation and reconstruction are measured on; ``questions`` are further held-out sets by the
    question that each asks.
    """

    train: ImageSet
    held_out: ImageSet
    questions: dict[str, ImageSet]
    notes: list[str] = field(default_factory=list)
    native_size: int = 64

    @property
    def name(self) -> str:
        """What the user asked for."""
        return self.train.source

    def in_format(self, pixel_format: PixelFormat) -> "Source":
        """Return the same images, all mapped to [-1, 1] as ``pixel_format`` says.

        Raises:
            UserError: they have other channels or another depth.
        """
        questions = {question: images.in_format(pixel_format) for question, images in self.questions.items()}
        train, held_out = self.train.in_format(pixel_format), self.held_out.in_format(pixel_format)
        return replace(self, train=train, held_out=held_out, questions=questions)


def open_source(text: str, *, strict: bool = False) -> Source:
    """Open ``emoji``, ``emoji:CATEGORY`` or a folder.

    Raises:
        UserError: there is no such folder or category, or nothing usable in it; or, if ``strict``, something unusable.
    """
    if text == "emoji" or text.startswith("emoji:"):
        splits = emoji_source(text)
        questions: dict[str, ImageSet] = {
            "unseen concepts": splits.held_out_concepts,
            "unseen concept-style pairs": splits.held_out_pairs,
        }
        notes = [f"{len(images)} images of {name} held out" for name, images in questions.items()]
        return Source(splits.train, splits.held_out_concepts, questions, notes)
    return _folder(Path(text), strict=strict)


def open_images(text: str) -> ImageSet:
    """Open all images of a folder, or the held-out concepts of the embedded emoji.

    Raises:
        UserError: as ``open_source``.
    """
    return open_source(text).held_out if text.startswith("emoji") else _scan(Path(text)).images


def open_all(text: str) -> ImageSet:
    """Open all images of a folder, or those of the embedded emoji that are trained on.

    Raises:
        UserError: as ``open_source``.
    """
    return open_source(text).train if text.startswith("emoji") else _scan(Path(text)).images


def _scan(path: Path, *, strict: bool = False) -> FolderScan:
    with progress("reading", 0) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.advance(done - bar.done)

        return scan_folder(path, progress=show, strict=strict)


def _folder(path: Path, *, strict: bool) -> Source:
    scan = _scan(path, strict=strict)
    notes = list(scan.notes)
    if scan.ignored:
        name, reason = scan.ignored[0]
        notes.append(
            f"{len(scan.ignored)} files and values left out, the first: {name} ({reason}); `calotype data check` lists "
            "them all, --strict ends there"
        )
    train, held_out = split(scan.images)
    notes.append(f"{len(held_out)} of {len(scan.images)} images held out")
    sides = sorted(min(info.width, info.height) for info in scan.infos)
    return Source(train, held_out, {"unseen images": held_out}, notes, sides[len(sides) // 2])
