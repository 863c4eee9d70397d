from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.data.image_set import ImageSet, Record
from calotype.data.pixel_format import PixelFormat


class MemorySet(ImageSet):
    """Random images of different shapes; counts how often each is decoded."""

    def __init__(self, count: int, *, groups: int | None = None, dtype: str = "uint8") -> None:
        draws = np.random.default_rng(0)
        high = int(np.iinfo(dtype).max)
        self.source = "memory"
        self.pixel_format = PixelFormat(dtype=dtype, high=float(high))
        self.arrays = [draws.integers(0, high + 1, (9 + i % 3, 9 + i % 5, 3)).astype(dtype) for i in range(count)]
        self.records = tuple(
            Record(f"{i}", {"number": i} if i % 2 else {}, f"group {i % groups}" if groups else "")
            for i in range(count)
        )
        self.decoded = [0] * count

    def pixels(self, index: int) -> np.ndarray:
        self.decoded[index] += 1
        return self.arrays[index]

    @cached_property
    def fingerprint(self) -> str:
        return "memory"


@pytest.fixture
def memory_set() -> type[MemorySet]:
    return MemorySet


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder ``photos`` of distinct small RGB PNGs with the given relative names (ten at the top by default)."""

    def make(*names: str) -> Path:
        for number, name in enumerate(names or [f"{i}.png" for i in range(10)]):
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20 + number, 16), (number, 100, 200)).save(path)
        return tmp_path / "photos"

    return make
