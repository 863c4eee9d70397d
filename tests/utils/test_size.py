import pytest

from calotype.utils.errors import UserError
from calotype.utils.size import height_width, parse_size, parse_sizes, read_size, size_text


@pytest.mark.parametrize(("text", "size"), [("64", 64), ("64x64", 64), ("96x64", (64, 96)), (" 8x100 ", (100, 8))])
def test_width_comes_first_in_text_and_height_in_arrays(text, size):
    assert parse_size(text) == size
    assert parse_size(size_text(size)) == size
    assert height_width(64) == (64, 64)
    assert height_width((64, 96)) == (64, 96)


@pytest.mark.parametrize("text", ["", "0", "64x0", "x64", "64x", "64x64x3", "-8", "6.4", "wide"])
def test_what_is_no_size_is_told_in_one_line(text):
    with pytest.raises(UserError, match=r"--size must be pixels such as 64, or width x height such as 96x64, not "):
        parse_size(text)


def test_a_list_of_sizes_has_each_once():
    assert parse_sizes("64,96x64,64x96,64x64") == (64, (64, 96), (96, 64))


def test_sizes_come_back_from_json():
    assert read_size(64) == 64
    assert read_size([64, 96]) == (64, 96)
