"""A set of images with their fields, wherever it comes from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from calotype.data.pixel_format import PixelFormat
from calotype.utils.errors import UserError
from calotype.utils.image_info import ImageInfo


@dataclass(frozen=True)
class Record:
    """One image of a set.

    ``name`` is stable and unique within the set (a relative path, ``3d/1f34e``); ``fields`` holds what is known about
    the image (``caption``, ``class``, ``style`` ...); images of one ``group`` never land on both sides of a split.
    """

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    group: str = ""


class ImageSet(ABC):
    """Images at their own size, with records. ``source`` is what the user asked for: a folder's path or ``emoji``."""

    source: str
    records: tuple[Record, ...]
    pixel_format: PixelFormat

    @abstractmethod
    def pixels(self, index: int) -> np.ndarray:
        """Return image ``index`` as HWC in the channels and depth of ``pixel_format``, upright."""

    def value(self, index: int, name: str) -> Any:
        """Return field ``name`` of image ``index``, None where it is missing.

        An array that is a map of labels (h, w) or an image (h, w, c) shows what the image shows.
        """
        return self.records[index].fields.get(name)

    def info(self, index: int) -> ImageInfo | None:  # noqa: ARG002
        """Return what the file of image ``index`` is, or ``None`` where there are no files."""
        return None

    def extent(self, index: int) -> tuple[int, int]:
        """Return height and width of image ``index``; without a file it is drawn or decoded for that."""
        info = self.info(index)
        height, width = self.pixels(index).shape[:2] if info is None else (info.height, info.width)
        return height, width

    @cached_property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash that changes when any image or record of the set changes."""

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of all fields that some record has, sorted."""
        return tuple(sorted({name for record in self.records for name in record.fields}))

    def subset(self, indices: Sequence[int]) -> "ImageSet":
        """Return the images at ``indices``, in that order, as a set of their own."""
        return _Subset(self, indices)

    def in_format(self, pixel_format: PixelFormat) -> "ImageSet":
        """Return the same images, mapped to [-1, 1] as ``pixel_format`` says: that of a model, for example.

        Values beyond its range lie beyond [-1, 1].

        Raises:
            UserError: the images have other channels or another depth.
        """
        own = self.pixel_format
        if (own.channels, own.dtype) != (pixel_format.channels, pixel_format.dtype):
            raise UserError(f"{self.source} has {own}, but the model was trained on {pixel_format}")
        return self if own == pixel_format else _InFormat(self, pixel_format)

    def __len__(self) -> int:
        return len(self.records)


class _Subset(ImageSet):
    def __init__(self, whole: ImageSet, indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, tuple(int(index) for index in indices)
        self.source, self.pixel_format = whole.source, whole.pixel_format
        self.records = tuple(whole.records[index] for index in self.indices)

    def pixels(self, index: int) -> np.ndarray:
        return self.whole.pixels(self.indices[index])

    def value(self, index: int, name: str) -> Any:
        return self.whole.value(self.indices[index], name)

    def info(self, index: int) -> ImageInfo | None:
        return self.whole.info(self.indices[index])

    @cached_property
    def fingerprint(self) -> str:
        from calotype.utils.files import digest

        return digest(self.whole.fingerprint, repr(self.indices))


class _InFormat(ImageSet):
    def __init__(self, images: ImageSet, pixel_format: PixelFormat) -> None:
        self.images, self.source, self.records = images, images.source, images.records
        self.pixel_format = pixel_format

    def pixels(self, index: int) -> np.ndarray:
        return self.images.pixels(index)

    def value(self, index: int, name: str) -> Any:
        return self.images.value(index, name)

    def info(self, index: int) -> ImageInfo | None:
        return self.images.info(index)

    @cached_property
    def fingerprint(self) -> str:
        return self.images.fingerprint
