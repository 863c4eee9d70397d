"""Fields that are files of their own: label maps, further images, arrays of numbers."""

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calotype.data.annotations import Annotations, Attachment
from calotype.data.field_values import IN_ROWS, LABELS, MAX_NUMBERS, MAX_SHOWN, BadValue
from calotype.data.pixel_format import PixelFormat
from calotype.data.survey import narrowed
from calotype.utils.files import digest, lies_in
from calotype.utils.image_info import MAX_PIXELS, ImageError, ImageInfo, decoding
from calotype.utils.images import read_image
from calotype.utils.label_maps import read_labels

MAX_LABELS = 1_000
UNALIGNED = ("reference",)


@dataclass(frozen=True)
class FieldFile:
    """The value of a field that is in a file: its name, relative to the set's folder, and the hash of its bytes."""

    name: str
    digest: str


class _Checked(NamedTuple):
    """An attachment that can be used, and what it is."""

    file: FieldFile
    form: str


def add_attachments(found: Annotations, root: Path, infos: Mapping[str, ImageInfo], pixel_format: PixelFormat) -> None:
    """Check the attachments of ``found`` in threads and make fields of them; those that do not fit are reported.

    A label map must have the size of its image, other images its shape (but for ``reference``, which need not show the
    same place) and ``pixel_format``. Arrays (``.npy``) of one or two axes are vectors and tokens.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda each: _check(each, root, infos[each.image], pixel_format), found.attachments)
        for attachment, result in zip(found.attachments, results, strict=True):
            if isinstance(result, _Checked):
                found.fields.setdefault(attachment.image, {})[attachment.field] = result.file
                found.forms[attachment.image, attachment.field] = result.form
            else:
                found.ignored.append((attachment.where, result))


def read_attachment(path: Path, field: str, pixel_format: PixelFormat) -> np.ndarray:
    """Return labels (h, w), an image (h, w, c) in ``pixel_format``, or an array of one or two axes.

    Raises:
        ImageError: it cannot be read.
        BadValue: it is not what this field can be.
    """
    if field == LABELS:
        labels = read_labels(path)
        if (highest := int(labels.max())) >= MAX_LABELS:
            raise BadValue(f"has the label {highest}; {MAX_LABELS - 1} is the highest")
        return labels
    if path.suffix.lower() == ".npy" and (numbers := _numbers(path)) is not None:
        return numbers
    pixels = narrowed(read_image(path), pixel_format)
    if (pixels.shape[2], str(pixels.dtype)) != (pixel_format.channels, pixel_format.dtype):
        raise BadValue(f"has {pixels.shape[2]} channels of {pixels.dtype}, but the images have {pixel_format}")
    return pixels


def check_forms(found: Annotations) -> None:
    """Leave out values that are something else than most of their field are: words, vectors of a length, images."""
    forms = {
        (image, name): found.forms.get((image, name)) or _form(value)
        for image, fields in found.fields.items()
        for name, value in fields.items()
        if name not in IN_ROWS
    }
    for field in {name for _, name in forms}:
        usual = Counter(form for (_, name), form in forms.items() if name == field).most_common(1)[0][0]
        for (image, name), form in forms.items():
            if name == field and form != usual:
                del found.fields[image][name]
                found.ignored.append((found.rows[image], f'"{name}" is {form} where most are {usual}'))


def _form(value: object) -> str:
    return f"{len(value)} numbers" if isinstance(value, list) else "a single value"


def _check(attachment: Attachment, root: Path, image: ImageInfo, pixel_format: PixelFormat) -> _Checked | str:
    """Return the attachment as a field, or why it cannot be one."""
    path = root / attachment.file
    if not lies_in(path, root):
        return f"{attachment.file} leaves the folder"
    if not os.path.isfile(path):  # Path.is_file raises where the name is too long
        return f"no file {attachment.file[:MAX_SHOWN]!r}"
    try:
        value = read_attachment(path, attachment.field, pixel_format)
        content = digest(path)
    except ImageError as error:
        return f"{attachment.file}: {error.reason}"
    except BadValue as error:
        return f"{attachment.file} {error}"
    except OSError as error:
        return f"{attachment.file}: {error.strerror or 'cannot be read'}"
    labels, picture = attachment.field == LABELS, value.ndim == 3 and attachment.field not in UNALIGNED
    height, width = value.shape[0], value.shape[1] if value.ndim > 1 else 0
    sizes = f"{width}x{height}, but its image {image.width}x{image.height}"
    if labels and (height, width) != (image.height, image.width):
        return f"{attachment.file} has {sizes}"
    if picture and abs(height * image.width - width * image.height) > max(image.width, image.height):
        return f"{attachment.file} has {sizes}: another shape"
    match value.shape:
        case _ if labels:
            form = "a label map"
        case (count,):
            form = f"{count} numbers"
        case (count, length):
            form = f"{count} tokens of {length} numbers"
        case _:
            form = f"an image at 1/{max(1, round(image.height / height))} of the size" if picture else "an image"
    return _Checked(FieldFile(attachment.file, content), form)


def _numbers(path: Path) -> np.ndarray | None:
    """Return an array of one or two axes, None where the file holds an image."""
    with decoding(path, MAX_PIXELS):
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise BadValue("is no array, but several")
    if values.ndim > 2:
        return None
    if values.ndim == 0 or values.dtype.kind not in "iuf" or not 0 < values.size <= MAX_NUMBERS:
        raise BadValue(f"must hold 1 to {MAX_NUMBERS} numbers, not {values.size} of {values.dtype}")
    numbers = np.array(values, dtype=np.float32)
    if not np.isfinite(numbers).all():
        raise BadValue("has numbers that are not finite")
    return numbers
