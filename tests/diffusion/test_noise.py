import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calotype.diffusion import DDIM, DDPM, EDM, Estimate, Flow, Linear, NoiseSource, solve

SEEDS = st.integers(0, 2**63 - 1)
BATCHES = st.lists(SEEDS, min_size=1, max_size=6)  # a seed may come twice


def test_an_image_depends_on_its_own_seed_alone():
    many, one = NoiseSource(range(5)), NoiseSource([3])
    assert torch.equal(many.initial((3, 4, 4))[3:4], one.initial((3, 4, 4)))
    for _ in range(3):
        assert torch.equal(many.draw((3, 4, 4))[3:4], one.draw((3, 4, 4)))


def test_draws_differ_by_step_and_by_seed_and_start_is_a_stream_of_its_own():
    source = NoiseSource([7, 8])
    draws = [source.initial((2, 8, 8)), source.draw((2, 8, 8)), source.draw((2, 8, 8))]
    rows = torch.cat(draws)
    assert len({tuple(row.flatten().tolist()) for row in rows}) == 6
    assert torch.equal(source.initial((2, 8, 8)), draws[0])


def test_the_dtype_does_not_change_the_numbers():
    assert torch.equal(NoiseSource([1]).draw((4,)).double(), NoiseSource([1]).draw((4,), dtype=torch.float64))
    assert NoiseSource(range(3)).draw((2, 5), dtype=torch.bfloat16).dtype == torch.bfloat16


def test_it_is_standard_normal():
    draw = NoiseSource(range(64)).draw((4, 32, 32))
    standard_error = draw.numel() ** -0.5
    assert abs(draw.mean()) < 5 * standard_error
    assert abs(draw.square().mean() - 1) < 5 * standard_error * 2**0.5


@given(BATCHES, st.data(), st.integers(1, 3))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_whatever_the_batch_a_seed_draws_the_same(seeds, data, draws):
    """In any order, with any others beside it, on any share of a device."""
    order = data.draw(st.permutations(range(len(seeds))))
    rows = order[: data.draw(st.integers(1, len(seeds)))]
    all_of_them, some = NoiseSource(seeds), NoiseSource([seeds[row] for row in rows])
    assert torch.equal(all_of_them.initial((2, 3))[rows], some.initial((2, 3)))
    for _ in range(draws):
        assert torch.equal(all_of_them.draw((2, 3))[rows], some.draw((2, 3)))


@pytest.mark.parametrize("solver", [DDPM(), DDPM(v_posterior=1.0), DDIM(eta=0.5), DDIM(eta=1.0)])
@given(BATCHES, st.integers(1, 6), st.sampled_from([Linear(), Flow(), EDM()]), st.data())
@settings(max_examples=6, deadline=None, derandomize=True)
def test_whatever_the_batch_a_walk_ends_the_same(solver, seeds, steps, schedule, data):
    def denoise(x, t):
        alpha, sigma = schedule.marginal(t, x)
        x0 = (alpha * x / (alpha**2 + sigma**2)).sin()
        return Estimate(x0, (x - alpha * x0) / sigma, alpha, sigma)

    def ends(seeds):
        source = NoiseSource(seeds)
        return list(solve(denoise, source.initial((2, 3, 3)), schedule.grid(steps), solver, source))[-1].x

    row = data.draw(st.integers(0, len(seeds) - 1))
    torch.testing.assert_close(ends(seeds)[row], ends([seeds[row]])[0], rtol=1e-5, atol=1e-6)
