import numpy as np
import pytest

from calotype.data.pixel_range import find_range


def found(low, high, dtype):
    return find_range(np.atleast_1d(np.asarray(low, float)), np.atleast_1d(np.asarray(high, float)), dtype)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        (0, 65535, "uint16", (0, 65535)),
        (900, 60_000, "uint16", (0, 65535)),
        (3, 4095, "uint16", (0, 4095)),
        (0, 250, "uint16", (0, 255)),
        (0, 4096, "uint16", (0, 4096)),  # half of the next convention lies idle
        (30_000, 34_000, "uint16", (30_000, 34_000)),
        (7, 7, "uint16", (0, 65535)),
        (-1024, 3071, "int16", (-1024, 3071)),
        (0, 10_000, "int16", (0, 10_000)),
        (0, 30_000, "int16", (0, 32767)),
        (0.02, 0.97, "float32", (0, 1)),
        (-0.9, 0.98, "float32", (-1, 1)),
        (0, 255, "float32", (0, 255)),
        (-0.02, 1.1, "float32", (-0.02, 1.1)),
        (1e-4, 3e-4, "float32", (1e-4, 3e-4)),
        (5, 5, "float32", (5, 10)),
        (0, 0, "float32", (0, 1)),
    ],
)
def test_one_range(low, high, dtype, expected):
    chosen = found(low, high, dtype)
    assert (chosen.low, chosen.high) == expected
    assert chosen.low < chosen.high
    assert bool(chosen.notes) == (expected != (0, 65535))


def test_the_note_says_what_was_found_and_what_is_done():
    assert found(3, 4095, "uint16").notes == ["values from 3 to 4095: 0 to 4095 is mapped to [-1, 1]"]


def test_channels_share_a_range_unless_one_of_them_would_hardly_use_it():
    alike = found([0.0, 0.1, 0.3], [0.9, 1.0, 0.6], "float32")
    assert (alike.low, alike.high) == (0, 1)
    far = found([0.0, -40.0, 0.1, 2.0], [0.9, 900.0, 1.0, 2.0], "float32")
    assert far.low == (0, -40, 0, 2)
    assert far.high == (1, 900, 1, 4)
    assert "from a range of its own (0 to 1, -40 to 900, 0 to 1, 2 to 4)" in far.notes[0]


def test_a_channel_without_variation_asks_for_nothing():
    assert found([0.0, 0.5, 0.5], [1.0, 0.5, 0.5], "float32").high == 1


def test_many_channels_are_not_all_listed():
    note = found(np.zeros(13), 10.0 ** np.arange(13), "float32").notes[0]
    assert note.endswith(", ...)")
