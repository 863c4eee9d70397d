import math

import torch

from calotype.nn.rotary import rotary_table, rotate

F64 = torch.float64


def test_every_pair_of_channels_turns_by_row_or_column() -> None:
    """Of 8 channels, pair 0 turns by the row, 1 by the row / 10, 2 by the column, 3 by the column / 10."""
    table = rotary_table(3, 5, 8, dtype=F64)
    x = torch.zeros(1, 1, 15, 8, dtype=F64)
    x[..., :4] = 1
    turned = rotate(x, table).view(3, 5, 8)
    for row, column in ((0, 0), (2, 0), (0, 4), (1, 3)):
        angles = (row, row / 10, column, column / 10)
        expected = [math.cos(angle) for angle in angles] + [math.sin(angle) for angle in angles]
        torch.testing.assert_close(turned[row, column], torch.tensor(expected, dtype=F64))


def test_products_depend_on_the_distance_alone() -> None:
    """Also between places of grids of different sizes: what was learned at one holds at another."""
    q, k = torch.randn(16, dtype=F64), torch.randn(16, dtype=F64)

    def scores(height: int, width: int) -> torch.Tensor:
        table = rotary_table(height, width, 16, dtype=F64)
        queries, keys = (rotate(x.expand(1, 1, height * width, 16), table)[0, 0] for x in (q, k))
        return (queries @ keys.T).view(height, width, height, width)

    small, large = scores(3, 4), scores(6, 9)
    torch.testing.assert_close(small[0, 1, 2, 3], small[0, 0, 2, 2])
    torch.testing.assert_close(large[3, 5, 5, 7], small[0, 1, 2, 3])
    assert not torch.isclose(small[0, 0, 0, 2], small[0, 0, 2, 0])
    assert not torch.isclose(small[0, 0, 0, 2], small[0, 2, 0, 0])


def test_turning_keeps_length_and_dtype() -> None:
    x = torch.randn(2, 3, 20, 12)
    turned = rotate(x, rotary_table(4, 5, 12))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16(), rotary_table(4, 5, 12)).dtype == torch.bfloat16
