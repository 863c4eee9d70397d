from typing import Any

import pytest
import torch
from torch import Tensor

from calotype.training import codebook
from calotype.training.codebook import (
    CodeAverageConfig,
    CodeAverages,
    CodebookConfig,
    CodebookKeeper,
    CodeRestarts,
)
from calotype.training.draws import Draws
from calotype.training.optimiser import NonFiniteError

LATENTS = torch.arange(4 * 2 * 3 * 3, dtype=torch.float64).view(4, 2, 3, 3)
POINTS = {tuple(point) for point in LATENTS.movedim(1, -1).reshape(-1, 2).tolist()}


def draws(seen: int = 4, rows: slice = slice(None)) -> Draws:
    return Draws(7, seen, 4, rows)


def after(*taken: int, every: int = 8) -> CodeRestarts:
    restarts = CodeRestarts(6, every)
    for code in taken:
        restarts.note(torch.arange(6) == code)
    return restarts


def codes(count: int = 6) -> Tensor:
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def nearest(codes: Tensor, latents: Tensor) -> Tensor:
    return torch.cdist(latents.movedim(1, -1), codes).argmin(dim=-1)


def test_idle_codes_go_to_latents_and_the_others_stay() -> None:
    codes, restarts = -torch.ones(6, 2, dtype=torch.float64), after(1, 4)
    assert restarts.restart(codes, LATENTS, draws()).tolist() == [0, 2, 3, 5]
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
    assert len(restarts.restart(codes, LATENTS, draws())) == 0
    assert torch.equal(codes, -torch.ones(6, 2, dtype=torch.float64))
    assert len(restarts.restart(codes, LATENTS, draws())) == 6


def test_averages_are_those_of_the_paper() -> None:
    """Written out for every code: N_i and m_i from 1 and the first code, and the smoothed quotient."""
    book, d, epsilon = codes(), 0.8, 0.1
    averages = CodeAverages(CodeAverageConfig(decay=d, epsilon=epsilon), book)
    counts, sums = [1.0] * 6, [code.clone() for code in book]
    for step in range(3):
        latents = torch.randn(4, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        indices = nearest(book, latents)
        averages.update(book, latents, indices)
        points, taken = latents.movedim(1, -1).reshape(-1, 2), indices.flatten()
        for code in range(6):
            counts[code] = d * counts[code] + (1 - d) * float((taken == code).sum())
            sums[code] = d * sums[code] + (1 - d) * points[taken == code].sum(0)
        for code in range(6):
            smoothed = (counts[code] + epsilon) / (sum(counts) + 6 * epsilon) * sum(counts)
            torch.testing.assert_close(book[code], sums[code] / smoothed)


def test_averaged_codes_follow_their_latents_and_idle_ones_stay() -> None:
    centres = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    book = torch.cat([0.5 * centres, torch.full((1, 2), -9.0, dtype=torch.float64)])
    averages = CodeAverages(CodeAverageConfig(decay=0.5, epsilon=0.0), book)
    latents = centres.T.reshape(1, 2, 1, 2).expand(4, 2, 3, 2)
    for _ in range(40):
        averages.update(book, latents, nearest(book, latents))
    torch.testing.assert_close(book[:2], centres)
    assert book[2].tolist() == pytest.approx([-9, -9])
    assert averages.counts.tolist() == pytest.approx([12, 12, 0], abs=1e-6)


def test_a_code_that_starts_again_forgets_its_average() -> None:
    keeper = CodebookKeeper(CodebookConfig(initial="random", average=CodeAverageConfig(), restart_every=4), codes())
    book, taken = codes(), torch.tensor([0, 1, 0, 0, 0, 0]).bool()
    indices = torch.ones(4, 3, 3, dtype=torch.long)
    logs = keeper.after_step(book, LATENTS, indices, taken.double(), draws())
    assert logs["codes_restarted"] == 5
    moved = [0, 2, 3, 4, 5]
    assert {tuple(code) for code in book[moved].tolist()} <= POINTS
    assert torch.equal(keeper.averages.sums[moved], book[moved])
    assert keeper.averages.counts[moved].tolist() == [1] * 5
    assert keeper.averages.counts[1] > 1


def test_codes_begin_at_the_means_of_latents() -> None:
    keeper, book = CodebookKeeper(CodebookConfig(average=CodeAverageConfig()), codes()), codes()
    assert not keeper.begun
    keeper.begin(book, LATENTS, draws())
    assert keeper.begun
    assert torch.equal(keeper.averages.sums, book)
    points = LATENTS.movedim(1, -1).reshape(-1, 2)
    before, now = (torch.cdist(points, each).amin(dim=1).square().mean() for each in (codes(), book))
    assert now < 0.1 * before
    assert CodebookKeeper(CodebookConfig(initial="random"), codes()).begun


def test_where_latents_are_few_the_other_codes_stay() -> None:
    keeper, book = CodebookKeeper(CodebookConfig(), codes(50)), codes(50)
    keeper.begin(book, LATENTS, draws())
    assert {tuple(code) for code in book[:36].tolist()} == POINTS
    assert torch.equal(book[36:], codes(50)[36:])


def test_codes_do_not_begin_at_what_is_not_finite() -> None:
    keeper, book = CodebookKeeper(CodebookConfig(), codes()), codes()
    with pytest.raises(NonFiniteError, match="a latent of the first batch is not finite"):
        keeper.begin(book, LATENTS * torch.nan, draws())
    assert torch.equal(book, codes())
    assert not keeper.begun


def restarted(book: Tensor, latents: Tensor, draws: Draws) -> None:
    after(3).restart(book, latents, draws)


def averaged(book: Tensor, latents: Tensor, draws: Draws) -> None:
    CodeAverages(CodeAverageConfig(), book).update(book, latents, nearest(book, latents))


def begun(book: Tensor, latents: Tensor, draws: Draws) -> None:
    CodebookKeeper(CodebookConfig(), book).begin(book, latents, draws)


@pytest.mark.parametrize("move", [restarted, averaged, begun])
def test_two_processes_move_codes_alike(monkeypatch: pytest.MonkeyPatch, move: Any) -> None:
    """Each has half of the batch: with the sum of what both contribute, both do what one alone would."""
    alone = codes()
    move(alone, LATENTS, draws())
    shares: list[list[Tensor]] = [[], []]
    monkeypatch.setattr(codebook.distributed, "world_size", lambda: 2)
    for rank, rows in enumerate((slice(0, 2), slice(2, 4))):
        mine = shares[rank]
        monkeypatch.setattr(codebook.distributed, "average", lambda tensor, mine=mine: mine.append(tensor) or tensor)
        move(codes(), LATENTS[rows], draws(rows=rows))
    both = [iter([a + b for a, b in zip(*shares, strict=True)]) for _ in range(2)]
    for sums, rows in zip(both, (slice(0, 2), slice(2, 4)), strict=True):
        book = codes()
        monkeypatch.setattr(codebook.distributed, "average", lambda tensor, sums=sums: next(sums) / 2)
        move(book, LATENTS[rows], draws(rows=rows))
        torch.testing.assert_close(book, alone)
    assert all(share[0].any() for share in shares)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (CodebookConfig, {"restart_every": -1}),
        (CodeAverageConfig, {"decay": 1.0}),
        (CodeAverageConfig, {"decay": -0.1}),
        (CodeAverageConfig, {"epsilon": -1e-5}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(kind: Any, change: dict[str, float]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=name):
        kind(**change)
