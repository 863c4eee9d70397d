from typing import Any

import numpy as np
import pytest
import torch

from calotype.chain.variations import MOST_STYLES, Variations, style_captions


def test_captions_are_varied_where_they_name_their_style() -> None:
    fields = {
        "caption": ["red apple, 3d style", "3d glasses, 3d style", "red apple, flat style", "a tree", None],
        "style": ["3d", "3d", "flat", "flat", "3d"],
    }
    assert style_captions(fields) == (
        ["red apple, 3d style", "3d glasses, 3d style", "red apple, flat style", "3d glasses, flat style"],
        ["3d", "flat"],
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"caption": ["a wave"]},
        {"style": ["flat"]},
        {"caption": ["a golden cup"], "style": ["old"]},
        {"caption": ["3 cups"], "style": [3]},
        {"caption": ["a cup"], "style": [""]},
    ],
)
def test_captions_that_name_no_style(fields: dict[str, list[Any]]) -> None:
    assert style_captions(fields) == ([], [])


def test_the_commonest_styles_and_the_first_captions_are_taken() -> None:
    styles = [f"s{number}" for number in range(20) for _ in range(20 - number)]
    fields = {"caption": [f"thing {index} in {style}" for index, style in enumerate(styles)], "style": styles}
    captions, taken = style_captions(fields, columns=3)
    assert taken == [f"s{number}" for number in range(MOST_STYLES)]
    assert captions[:4] == ["thing 0 in s0", "thing 1 in s0", "thing 2 in s0", "thing 0 in s1"]
    assert len(captions) == 3 * MOST_STYLES


def test_a_grid_has_one_row_for_each_value() -> None:
    images = torch.stack([torch.full((1, 4, 4), -1 + 2 * index / 5) for index in range(6)])
    grid = Variations(images, ["low", "high"]).grid
    assert grid.shape == (2 * 6 + 2, 3 * 6 + 2, 1)
    assert grid[3::6, 3::6, 0].tolist() == [[0, 51, 102], [153, 204, 255]]
    assert isinstance(grid, np.ndarray)
