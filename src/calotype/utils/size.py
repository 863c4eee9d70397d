"""Sizes of images: the side of a square, or height and width."""

import re
from typing import TypeAlias

from calotype.utils.errors import UserError

Size: TypeAlias = int | tuple[int, int]


def height_width(size: Size) -> tuple[int, int]:
    """Return (height, width) of a size."""
    return (size, size) if isinstance(size, int) else size


def read_size(stored: int | list[int]) -> Size:
    """Return a size from JSON, where a pair is a list."""
    return stored if isinstance(stored, int) else (stored[0], stored[1])


def size_text(size: Size) -> str:
    """Return a size as people write it: ``64``, or width x height as ``96x64``."""
    return str(size) if isinstance(size, int) else f"{size[1]}x{size[0]}"


def parse_size(text: str) -> Size:
    """Return the size that ``size_text`` wrote.

    Raises:
        UserError: it is no such text, or a side is 0.
    """
    match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text.strip())
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not width or not height:
        raise UserError(f"--size must be pixels such as 64, or width x height such as 96x64, not {text!r}")
    return width if width == height else (height, width)


def parse_sizes(text: str) -> tuple[Size, ...]:
    """Return the different sizes of a list such as ``64,96x64``, in its order.

    Raises:
        UserError: as ``parse_size``.
    """
    return tuple(dict.fromkeys(parse_size(part) for part in text.split(",")))
