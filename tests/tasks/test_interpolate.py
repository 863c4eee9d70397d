import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.diffusion import NoiseSource
from calotype.tasks.interpolate import interpolate, slerp

seeds = st.integers(0, 10**6)
thorough = settings(max_examples=50, deadline=None, derandomize=True)


def noise(seed):
    return NoiseSource([seed]).initial((4, 4, 4))


@thorough
@given(seeds, seeds, st.floats(0, 1), st.floats(0.1, 10))
def test_norms_are_mixed_linearly_and_angles_in_proportion(first, second, weight, scale):
    a, b = noise(first), scale * noise(second)
    got = slerp(a, b, weight)
    assert got.norm().item() == pytest.approx(torch.lerp(a.norm(), b.norm(), weight).item(), rel=1e-5)

    def angle(x, y):
        return math.acos(max(-1, min(1, ((x * y).double().sum() / (x.double().norm() * y.double().norm())).item())))

    if first != second:
        assert angle(a, got) == pytest.approx(weight * angle(a, b), abs=1e-3)


@thorough
@given(seeds, seeds, st.floats(0.1, 10))
def test_ends_are_exact_and_the_way_is_the_same_in_both_directions(first, second, scale):
    a, b = noise(first), scale * noise(second)
    assert torch.equal(slerp(a, b, 0.0), a)
    assert torch.equal(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, b, 0.25), slerp(b, a, 0.75))


def test_rows_are_on_ways_of_their_own_and_those_of_one_direction_on_a_line():
    a, b = NoiseSource([1, 2]).initial((1, 3, 3)), NoiseSource([3, 4]).initial((1, 3, 3))
    b[1] = 3 * a[1]
    torch.testing.assert_close(slerp(a, b, 0.3)[:1], slerp(a[:1], b[:1], 0.3))
    torch.testing.assert_close(slerp(a, b, 0.5)[1], 2 * a[1])
    assert slerp(a, -a, 0.5).isfinite().all()


def test_a_way_through_several_points_passes_them_in_equal_steps():
    points = NoiseSource([1, 2, 3]).initial((1, 8, 8))
    way = interpolate(points, 9)
    assert torch.equal(way[::4], points)
    torch.testing.assert_close(way[1:2], slerp(points[:1], points[1:2], 0.25))
    torch.testing.assert_close(way[6:7], slerp(points[1:2], points[2:], 0.5))
    assert torch.equal(interpolate(points[:2], 2), points[:2])
    for few in ((points[:1], 5), (points, 1)):
        with pytest.raises(ValueError, match="at least 2"):
            interpolate(*few)
