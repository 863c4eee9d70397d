import re

import pytest

from calotype.cli.values import MOST_SEEDS, check_positive, check_seed, parse_interval, parse_seeds
from calotype.utils.errors import UserError


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("7", [7]), ("0-3", [0, 1, 2, 3]), ("3, 7,20-22", [3, 7, 20, 21, 22]), ("5-5", [5]), ("2,2", [2, 2])],
)
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "1--3", "1.5", "0-3,", "3-1", f"0-{MOST_SEEDS}", "0-99999,1"])
def test_what_is_no_list_of_seeds(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(text)


def test_intervals_of_noise_levels() -> None:
    assert parse_interval("0.3-5") == (0.3, 5.0)
    assert parse_interval("0-inf") == (0.0, float("inf"))


@pytest.mark.parametrize("text", ["", "3", "5-0.3", "-1-3", "1-2-3", "a-b", "nan-1", "1-1"])
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(UserError, match=r"two rising noise levels such as 0\.3-5"):
        parse_interval(text)


@pytest.mark.parametrize("value", [0, -1, -0.5, float("nan"), float("inf")])
def test_values_that_must_be_positive(value: float) -> None:
    check_positive(size=None, minutes=0.1, batch_size=1)
    with pytest.raises(UserError, match=re.escape(f"--batch-size must be above 0, not {value:g}")):
        check_positive(size=3, batch_size=value)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_torch_cannot_take(seed: int) -> None:
    check_seed(0)
    check_seed(2**63 - 1)
    with pytest.raises(UserError, match="--seed must be between 0"):
        check_seed(seed)
