"""What the image files of a folder are, one by one, and what they have in common."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calotype.data.pixel_format import PixelFormat
from calotype.data.pixel_range import find_range
from calotype.utils.files import digest
from calotype.utils.image_info import Alpha, ImageError, ImageInfo, plural
from calotype.utils.images import load_image

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FileFacts:
    """An image file as it was decoded once: what it is, the hash of its bytes, and the range of each channel.

    ``hides`` tells of a channel that is tagged as opacity whether it looks like it: mostly all or nothing.
    """

    info: ImageInfo
    digest: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    hides: bool = False


@dataclass(frozen=True)
class Common:
    """The files that go together, what they are read as, and those that do not fit as (name, reason)."""

    pixel_format: PixelFormat
    facts: dict[str, FileFacts]
    left_out: list[tuple[str, str]]
    notes: list[str]
    alpha: Alpha


def survey(
    root: Path, names: Sequence[str], background: tuple[int, int, int], progress: Progress | None
) -> dict[str, FileFacts | ImageError]:
    """Decode every file in threads (the decoders release the GIL); ``progress(done, total)`` after each."""
    found: dict[str, FileFacts | ImageError] = {}
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        for name, result in zip(names, pool.map(lambda name: _examine(root / name, background), names), strict=True):
            found[name] = result
            if progress:
                progress(len(found), len(names))
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _examine(path: Path, background: tuple[int, int, int]) -> FileFacts | ImageError:
    try:
        info, pixels = load_image(path, background, alpha="kept")
        content = digest(path)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(path, error.strerror or "cannot be read")
    low, high = (tuple(bound(axis=(0, 1)).astype(float).tolist()) for bound in (pixels.min, pixels.max))
    return FileFacts(info, content, low, high, info.alpha == "kept" and _hides(pixels[..., -1]))


def _hides(opacity: np.ndarray) -> bool:
    """Whether at least half the values are 0 or the highest, and the highest is no rarity among them.

    tifffile tags the last of 4 channels as opacity, whatever it holds: near infrared, depth.
    """
    full = int((opacity == np.iinfo(opacity.dtype).max).sum())
    decided = full + int((opacity == 0).sum())
    return 2 * decided >= opacity.size and 10 * full >= decided


def find_common(facts: dict[str, FileFacts], background: tuple[int, int, int]) -> Common:
    """Choose one pixel format for the files: of most of them, if they cannot all have the same.

    Grey and RGB go together, as RGB, and 8 with 16 bits, as 8. All else must be equal in channels and type. A channel
    of opacity is laid over ``background`` where it looks like one in most files that have it, else it is a channel.
    """
    alpha: Alpha = "kept"
    tagged = [each for each in facts.values() if each.info.alpha == "kept"]
    if tagged and 2 * sum(each.hides for each in tagged) >= len(tagged):
        alpha = "blended"
        facts = {name: _without_opacity(each, background) for name, each in facts.items()}
    families = Counter(_family(each.info) for each in facts.values())
    chosen = families.most_common(1)[0][0]
    kept = {name: each for name, each in facts.items() if _family(each.info) == chosen}
    pixel_format, notes = _format(list(kept.values()))
    reason = f"where most files have {plural(pixel_format.channels)} of {pixel_format.dtype}"
    left_out = [
        (name, f"{plural(each.info.channels)} of {each.info.dtype}, {reason}")
        for name, each in facts.items()
        if name not in kept
    ]
    return Common(pixel_format, kept, left_out, notes, alpha)


def _without_opacity(facts: FileFacts, background: tuple[int, int, int]) -> FileFacts:
    if facts.info.alpha != "kept":
        return facts
    info = replace(facts.info, channels=facts.info.channels - 1, alpha="blended")
    paper = [value * (257 if info.dtype == "uint16" else 1) for value in background]
    low = tuple(min(value, *paper) for value in facts.low[:-1])
    high = tuple(max(value, *paper) for value in facts.high[:-1])
    return FileFacts(info, facts.digest, low, high)


def _family(info: ImageInfo) -> tuple[str, int]:
    """Return what must be equal among files that go together."""
    return "uint" if info.dtype in ("uint8", "uint16") else info.dtype, 3 if info.channels == 1 else info.channels


def _format(facts: list[FileFacts]) -> tuple[PixelFormat, list[str]]:
    channels = max(each.info.channels for each in facts)
    dtypes = {each.info.dtype for each in facts}
    if "uint8" in dtypes:
        return PixelFormat(channels=channels), []
    dtype = dtypes.pop()
    low = np.min([np.broadcast_to(each.low, channels) for each in facts], axis=0)
    high = np.max([np.broadcast_to(each.high, channels) for each in facts], axis=0)
    found = find_range(low, high, dtype)
    pixel_format = PixelFormat(channels=channels, dtype=dtype, low=found.low, high=found.high)  # type: ignore[arg-type]
    return pixel_format, found.notes


def narrowed(pixels: np.ndarray, pixel_format: PixelFormat) -> np.ndarray:
    """Return a file's pixels in the set's format: grey repeated to 3 channels, 16 bits scaled by 1/257, if need be."""
    if pixels.dtype == np.uint16 and pixel_format.dtype == "uint8":
        pixels = np.rint(pixels / 257).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 and pixel_format.channels == 3 else pixels
