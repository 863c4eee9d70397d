import torch

from calotype.training.draws import Draws

ALL, HALVES = slice(None), (slice(0, 3), slice(3, 6))


def draws(rows: slice, *, seed: int = 0, seen: int = 12) -> Draws:
    return Draws(seed, seen, 6, rows)


def several(each: Draws) -> list[torch.Tensor]:
    times = each.make("time", lambda count, generator: torch.rand(count, generator=generator, dtype=torch.float64))
    return [each.normal("noise", 2, 3), each.uniform("drop"), times]


def test_rows_of_two_processes_are_those_of_one() -> None:
    for one, *two in zip(several(draws(ALL)), *(several(draws(half)) for half in HALVES), strict=True):
        assert torch.equal(one, torch.cat(two))
    assert draws(ALL).keys("augment") == [key for half in HALVES for key in draws(half).keys("augment")]


def test_keys_belong_to_samples_whatever_the_batch() -> None:
    assert Draws(0, 0, 4, ALL).keys("a") + Draws(0, 4, 2, ALL).keys("a") == Draws(0, 0, 6, ALL).keys("a")
    assert len(set(Draws(0, 0, 6, ALL).keys("a"))) == 6


def test_seed_stream_and_position_matter() -> None:
    others = [draws(ALL, seed=1).normal("noise", 4), draws(ALL, seen=18).normal("noise", 4), draws(ALL).normal("t", 4)]
    first = draws(ALL).normal("noise", 4)
    assert torch.equal(first, draws(ALL).normal("noise", 4))
    assert not any(torch.equal(first, other) for other in others)
