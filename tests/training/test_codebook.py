import pytest
import torch

from calotype.training import codebook
from calotype.training.codebook import CodeRestarts
from calotype.training.draws import Draws

LATENTS = torch.arange(4 * 2 * 3 * 3, dtype=torch.float64).view(4, 2, 3, 3)
POINTS = {tuple(point) for point in LATENTS.movedim(1, -1).reshape(-1, 2).tolist()}


def draws(seen: int = 4, rows: slice = slice(None)) -> Draws:
    return Draws(7, seen, 4, rows)


def after(*taken: int, every: int = 8) -> CodeRestarts:
    restarts = CodeRestarts(6, every)
    for code in taken:
        restarts.note(torch.arange(6) == code)
    return restarts


def test_idle_codes_go_to_latents_and_the_others_stay() -> None:
    codes, restarts = -torch.ones(6, 2, dtype=torch.float64), after(1, 4)
    assert restarts.restart(codes, LATENTS, draws()) == 4
    assert codes[[1, 4]].tolist() == [[-1, -1], [-1, -1]]
    moved = [tuple(code) for code in codes[[0, 2, 3, 5]].tolist()]
    assert set(moved) <= POINTS
    assert len(set(moved)) > 1


def test_where_they_go_is_a_function_of_the_position_in_the_run() -> None:
    codes = torch.zeros(3, 6, 2, dtype=torch.float64)
    for each, seen in zip(codes, (4, 4, 12), strict=True):
        after().restart(each, LATENTS, draws(seen))
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])


def test_it_looks_at_once_and_then_when_an_interval_ends() -> None:
    assert [seen for seen in range(0, 32, 4) if after().due(draws(seen))] == [0, 4, 12, 20, 28]


def test_a_code_that_was_once_in_use_can_become_idle() -> None:
    codes, restarts = -torch.ones(6, 2, dtype=torch.float64), after(*range(6))
    assert restarts.restart(codes, LATENTS, draws()) == 0
    assert torch.equal(codes, -torch.ones(6, 2, dtype=torch.float64))
    assert restarts.restart(codes, LATENTS, draws()) == 6


def test_two_processes_move_codes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has half of the batch; what one of them contributes is zero where the other has the latent."""
    alone = torch.zeros(6, 2, dtype=torch.float64)
    after(3).restart(alone, LATENTS, draws())
    shares: list[torch.Tensor] = []
    monkeypatch.setattr(codebook.distributed, "world_size", lambda: 2)
    monkeypatch.setattr(codebook.distributed, "average", lambda tensor: shares.append(tensor) or tensor / 2)
    for rows in (slice(0, 2), slice(2, 4)):
        after(3).restart(torch.zeros(6, 2, dtype=torch.float64), LATENTS[rows], draws(rows=rows))
    assert torch.equal(shares[0] + shares[1], alone[[0, 1, 2, 4, 5]])
    assert all(share.any() for share in shares)
