import numpy as np
import pytest

from calotype.utils.mirror import mirrored


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 3), (9, 20)])
def test_it_goes_on_as_numpys_reflection(length: int, before: int, after: int) -> None:
    """Also further than the axis is long."""
    expected = np.pad(np.arange(length), (before, after), mode="reflect")
    assert mirrored(length, before=before, after=after).tolist() == expected.tolist()
