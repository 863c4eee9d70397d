"""Which values of a folder's pixels become -1 and +1."""

from dataclasses import dataclass

import numpy as np

CONVENTIONS: dict[str, tuple[tuple[float, float], ...]] = {
    "uint16": tuple((0.0, 2.0**bits - 1) for bits in range(8, 17)),
    "int16": tuple((0.0, 2.0**bits - 1) for bits in range(8, 16)),
    "float32": ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)),
}
OWN_RANGE_BELOW, USED = 1 / 8, 3 / 4
_LISTED = 4


@dataclass(frozen=True)
class PixelRange:
    """The values that become -1 and +1, one for all channels or one for each, and what to tell the user about them."""

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]
    notes: list[str]


def find_range(low: np.ndarray, high: np.ndarray, dtype: str) -> PixelRange:
    """Choose the range of pixels of type ``dtype``; ``low`` and ``high`` are their extremes in each channel.

    All channels share one range, unless one of them would use less than ``OWN_RANGE_BELOW`` of it: then each has its
    own. A range is the data's least and greatest value, or the first of ``CONVENTIONS`` that holds them and of which
    they use at least ``USED`` (12-bit scans in 16-bit files: 0 to 4095): further images of the kind will fit it too.
    """
    spans = high - low
    least, greatest = float(low.min()), float(high.max())
    if len(low) > 1 and (spans[spans > 0] < OWN_RANGE_BELOW * (greatest - least)).any():
        ranges = [_conventional(float(a), float(b), dtype) for a, b in zip(low, high, strict=True)]
        shown = ", ".join(f"{a:g} to {b:g}" for a, b in ranges[:_LISTED]) + ", ..." * (len(ranges) > _LISTED)
        note = f"the channels' values differ much: each is mapped to [-1, 1] from a range of its own ({shown})"
        return PixelRange(tuple(a for a, _ in ranges), tuple(b for _, b in ranges), [note])
    bottom, top = _conventional(least, greatest, dtype)
    note = f"values from {least:g} to {greatest:g}: {bottom:g} to {top:g} is mapped to [-1, 1]"
    full = dtype == "uint16" and (bottom, top) == CONVENTIONS["uint16"][-1]
    return PixelRange(bottom, top, [] if full else [note])


def _conventional(least: float, greatest: float, dtype: str) -> tuple[float, float]:
    for low, high in CONVENTIONS[dtype]:
        if low <= least and greatest <= high and greatest - least >= USED * (high - low):
            return low, high
    if least == greatest:
        return CONVENTIONS["uint16"][-1] if dtype == "uint16" else (least, least + max(1.0, abs(least)))
    return least, greatest
