import torch

from calotype.utils.seeds import generator, python_random, seed_of


def test_seeds_are_the_same_everywhere() -> None:
    """Values by coreutils' b2sum: a change here changes every sample and every resumed run."""
    assert seed_of(0) == 2631537505891389924
    assert seed_of(0, "noise", 1280) == 853396969617488193


def test_keys_do_not_run_into_each_other() -> None:
    keys = [(0,), ("0",), (0, 1), (1, 0), (0, "1"), ("0, 1",), (0, 1, 0), ()]
    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert all(0 <= seed_of(*key) < 2**63 for key in keys)


def test_generators_start_anew_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = (torch.randn(4, generator=generator("a", 1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.randn(4, generator=generator("a", 2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_pythons_generator_takes_one_draw_of_torchs() -> None:
    source, same = generator("b"), generator("b")
    first, second = python_random(source), python_random(source)
    assert first.random() == python_random(same).random() != second.random()
    python_random(same)
    assert torch.equal(source.get_state(), same.get_state())
