"""Values of fields as a model is shown them: cropped, resized and mirrored together with their images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calotype.data.attachments import LABELS, UNALIGNED, FieldFile
from calotype.data.cropping import crop_boxes, crop_image, crop_labels, mirrored
from calotype.data.derived import DerivedField
from calotype.data.loader import Loader
from calotype.utils.seeds import generator

Lookup = Callable[[int], Any]
"""Returns the value of a field that is kept elsewhere, by the image's index: stored embeddings, neighbours."""
CACHE_BYTES = 2**30


class FieldReader:
    """Reads the fields of a set for the centre crops that ``loader`` makes of its images.

    Every plain field of the records is there. Of those in files only ``names`` are read: label maps become int64
    (h, w), images float32 (c, h, w) in [-1, 1], arrays float32. ``boxes`` are relative to the crop, and those outside
    it are left out. ``derived`` fields are made from the image, and replace what the records say; ``lookups`` likewise.
    A mirrored image has its maps, images and boxes mirrored.
    """

    def __init__(
        self,
        loader: Loader,
        names: Sequence[str] = (),
        derived: Sequence[DerivedField] = (),
        lookups: Mapping[str, Lookup] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.loader, self.derived, self.lookups = loader, tuple(derived), dict(lookups or {})
        made = {each.field for each in self.derived} | self.lookups.keys()
        images = loader.images
        files = {name for each in images.records for name, value in each.fields.items() if isinstance(value, FieldFile)}
        self.names = [name for name in images.field_names if name not in made and (name not in files or name in names)]
        self._cache: dict[tuple[int, str], Any] = {}
        self._room = cache_bytes

    def __len__(self) -> int:
        return len(self.loader)

    def at(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """Return the fields of the images at ``indices``; what is drawn depends on the index alone.

        Raises:
            ImageError: a file has gone or changed.
        """
        return self._rows([(index, False, ("at", index)) for index in indices])

    def for_training(
        self, indices: Sequence[int], positions: Sequence[int], mirrored: Sequence[bool]
    ) -> dict[str, list[Any]]:
        """Return the fields of ``indices`` as samples number ``positions``, on which the draws depend."""
        seed = self.loader.seed
        return self._rows(list(zip(indices, mirrored, [(seed, position) for position in positions], strict=True)))

    def _rows(self, samples: Sequence[tuple[int, bool, tuple[int | str, ...]]]) -> dict[str, list[Any]]:
        """Read files in the loader's threads, then make the values in this one: they are many short computations."""
        self.loader.map(self._fetch, [index for index, _, _ in samples])
        rows = [self._read(*sample) for sample in samples]
        names = (*self.names, *self.lookups, *(each.field for each in self.derived))
        return {name: [row[name] for row in rows] for name in names}

    def _fetch(self, index: int) -> None:
        for name in self.names:
            self._cropped(index, name)
        if self.derived:
            self.loader.crop(index)

    def _read(self, index: int, mirror: bool, key: tuple[int | str, ...]) -> dict[str, Any]:
        values = {name: self._cropped(index, name) for name in self.names}
        values |= {name: lookup(index) for name, lookup in self.lookups.items()}
        if mirror:
            values = {name: mirrored(name, value) for name, value in values.items()}
        if self.derived:
            image = self._image(index, mirror)
            values |= {each.field: each.make(image, generator("derive", each.field, *key)) for each in self.derived}
        return values

    def _image(self, index: int, mirror: bool) -> Float[Tensor, "c h w"]:
        crop = self.loader.crop(index)
        image = self.loader.images.pixel_format.to_model(crop).permute(2, 0, 1)
        return image.flip(2) if mirror else image

    def _cropped(self, index: int, name: str) -> Any:
        """Return a field as it belongs to the crop, from the cache where it is there."""
        if (index, name) in self._cache:
            return self._cache[index, name]
        value = self.loader.images.value(index, name)
        if name == "boxes" and value is not None:
            return crop_boxes(value, self.loader.transform, self.loader.images.extent(index))
        if not isinstance(value, np.ndarray):
            return value
        cropped = self._as_tensor(index, name, value)
        size = cropped.numel() * cropped.element_size()
        if size <= self._room:
            self._room -= size
            self._cache[index, name] = cropped
        return cropped

    def _as_tensor(self, index: int, name: str, value: np.ndarray) -> Tensor:
        images, transform = self.loader.images, self.loader.transform
        if name == LABELS:
            return torch.from_numpy(crop_labels(value, transform))
        if value.ndim < 3:
            return torch.from_numpy(value)
        if name in UNALIGNED:
            pixels = transform.apply(value)
        else:
            pixels = crop_image(value, transform, images.extent(index))
        return images.pixel_format.to_model(pixels).permute(2, 0, 1).contiguous()
