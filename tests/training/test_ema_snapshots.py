"""Averages of other lengths than those that were kept, against averages that were kept all along."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_resume import Signalled
from torch import nn

import calotype as ct
from calotype.artifact import read_artifact
from calotype.encoders import Contents, ImageEncoderConfig, RetrievalIndex
from calotype.training.ema import MovingAverage, PowerFunctionEMA, gamma_of
from calotype.training.ema_snapshots import (
    TRACKS,
    overlap,
    post_hoc_average,
    save_snapshot,
    snapshot_cost,
    snapshots,
    solve_weights,
    write_post_hoc_average,
)
from calotype.training.interrupt import Interrupted
from calotype.training.recipe import Recipe
from calotype.training.trainer import Trainer
from calotype.utils.errors import UserError
from tiny import settings

MakeRecipe = Callable[..., Recipe]
WIDTHS = (0.03, 0.05, 0.08, 0.10, 0.20)
STEPS = 960


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[float, torch.Tensor]]:
    """Twelve snapshots of 2000 weights that drift and tremble, and their averages of several widths as they went."""
    run = tmp_path_factory.mktemp("walk")
    torch.manual_seed(0)
    source = nn.Linear(2000, 1, bias=False)
    average = MovingAverage({"it": source}, PowerFunctionEMA(), tracks=(*TRACKS, *WIDTHS))
    kept = MovingAverage({"it": source}, PowerFunctionEMA(), tracks=TRACKS)
    goal = torch.randn(1, 2000)
    for step in range(1, STEPS + 1):
        source.weight.data += (goal - source.weight.data) * 3 / STEPS + 0.01 * torch.randn(1, 2000)
        average.update(step)
        kept.update(step)
        if step % (STEPS // 12) == 0:
            save_snapshot(run, kept, step)
    return run, {width: average.tracks[width].modules["it"].weight.detach().clone() for width in WIDTHS}


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("width", TRACKS)
def test_a_width_that_was_kept_is_the_last_snapshot(walk: tuple[Path, dict[float, torch.Tensor]], width: float) -> None:
    run, averages = walk
    assert error(post_hoc_average(run, width)["it"]["weight"], averages[width]) < 1e-3


@pytest.mark.parametrize("width", sorted(set(WIDTHS) - set(TRACKS)))
def test_other_widths_are_what_would_have_been_kept(walk: tuple[Path, dict[float, torch.Tensor]], width: float) -> None:
    """Far nearer than the kept widths are."""
    run, averages = walk
    found = error(post_hoc_average(run, width)["it"]["weight"], averages[width])
    nearest = min(error(averages[track], averages[width]) for track in TRACKS)
    assert found < 0.3 * nearest
    assert found < 0.02


def test_an_earlier_model_comes_from_the_snapshots_until_then(walk: tuple[Path, dict[float, torch.Tensor]]) -> None:
    run, averages = walk
    early = post_hoc_average(run, 0.10, seen=480)["it"]["weight"]
    source = nn.Linear(2000, 1, bias=False)
    torch.manual_seed(0)
    source = nn.Linear(2000, 1, bias=False)
    direct, goal = MovingAverage({"it": source}, PowerFunctionEMA(gamma=gamma_of(0.10))), torch.randn(1, 2000)
    for step in range(1, 481):
        source.weight.data += (goal - source.weight.data) * 3 / STEPS + 0.01 * torch.randn(1, 2000)
        direct.update(step)
    assert error(early, direct.modules["it"].weight.detach()) < 1e-3
    assert error(early, averages[0.10]) > 0.1


def test_overlaps_are_integrals() -> None:
    a, b = (6.94, 0.7), (16.97, 1.0)
    x = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000

    def density(gamma: float, end: float) -> torch.Tensor:
        return torch.where(x < end, (gamma + 1) * x**gamma / end ** (gamma + 1), 0.0)

    for first, second in ((a, b), (b, a), (a, a), (b, b)):
        expected = float((density(*first) * density(*second)).mean())
        assert overlap(first, second) == pytest.approx(expected, rel=1e-4)


def test_weights_sum_to_one_and_pick_what_is_stored() -> None:
    stored = [(gamma_of(track), 100.0 * each) for each in range(1, 13) for track in TRACKS]
    for width in (0.01, 0.07, 0.25):
        assert solve_weights(stored, (gamma_of(width), 1200.0)).sum() == pytest.approx(1)
    picked = solve_weights(stored, stored[-1])
    assert picked[-1] == pytest.approx(1, abs=1e-6)
    assert abs(picked[:-1]).max() < 1e-6


@pytest.fixture(scope="module")
def trained(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    recipe = make_recipe("diffusion")
    Trainer(settings(run, ema_snapshots=4, ema=PowerFunctionEMA(gamma=gamma_of(0.10)))).fit(recipe, recipe.train)
    return run


def test_a_run_keeps_as_many_as_asked_for(trained: Path) -> None:
    assert snapshots(trained) == [12, 20, 32, 40]
    assert not list((trained / "ema").glob(".*"))


def test_what_it_costs_is_said(trained: Path, make_recipe: MakeRecipe) -> None:
    average = MovingAverage(make_recipe("diffusion").averaged, PowerFunctionEMA(), tracks=TRACKS)
    size = (trained / "ema" / f"{40:010d}.safetensors").stat().st_size / 2**20
    assert f"4 snapshots of averaged weights, {size:.0f} MiB each" in snapshot_cost(trained, average, 4)


def test_a_model_of_another_width_is_a_model(trained: Path, tmp_path: Path) -> None:
    write_post_hoc_average(trained, tmp_path / "same", 0.10)
    write_post_hoc_average(trained, tmp_path / "early", 0.10, seen=20)
    same, run = (ct.load(path).network.state_dict() for path in (tmp_path / "same", trained))
    for key, value in run.items():
        assert error(same[key], value) < 1e-3, key
    assert ct.load(tmp_path / "early").sample(seeds=[0], steps=2, caption=["a red wave"]).shape == (1, 3, 16, 16)
    assert read_artifact(tmp_path / "early").provenance["samples_seen"] == 20
    with pytest.raises(UserError, match="exists already"):
        write_post_hoc_average(trained, tmp_path / "same", 0.05)


def test_a_model_of_another_width_keeps_the_index_of_its_neighbours(trained: Path, tmp_path: Path) -> None:
    encoder = ImageEncoderConfig(fingerprint="none", channels=2)
    rows = {"names": ("a",), "groups": ("a",), "captions": ("",)}
    index = RetrievalIndex(Contents(source="a", fingerprint="a", size=16, encoder=encoder, **rows), torch.ones(1, 2))
    path = read_artifact(trained).file("index")
    index.save(path)
    write_post_hoc_average(trained, tmp_path / "wide", 0.10)
    path.unlink()
    assert ct.load(tmp_path / "wide").index.contents == index.contents


def test_an_earlier_checkpoint_is_a_model_by_its_path(trained: Path) -> None:
    earlier, last = sorted((trained / "checkpoints").iterdir())
    first, second = (ct.load(path).network.out[2].weight for path in (earlier, last))
    assert not torch.equal(first, second)
    assert torch.equal(second, ct.load(trained).network.out[2].weight)


def test_stopped_and_resumed_the_snapshots_are_the_same(trained: Path, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    trainer = Trainer(settings(tmp_path / "run", ema_snapshots=4, ema=PowerFunctionEMA(gamma=gamma_of(0.10))))
    for weights, start in enumerate((4, 24)):
        recipe = make_recipe("diffusion", weights=weights)
        with pytest.raises(Interrupted):
            trainer.fit(recipe, Signalled(recipe.train, start, signal.SIGINT))
    recipe = make_recipe("diffusion", weights=9)
    trainer.fit(recipe, recipe.train)
    files = [{path.name: path.read_bytes() for path in (run / "ema").iterdir()} for run in (tmp_path / "run", trained)]
    assert files[0] == files[1]


def test_what_cannot_be_had_is_said(trained: Path, encoded: Path, tmp_path: Path) -> None:
    for width in (0.009, 0.26):
        with pytest.raises(UserError, match=r"between 0\.01 and 0\.25"):
            post_hoc_average(trained, width)
    with pytest.raises(UserError, match="no snapshot at 13 samples, but at 12, 20, 32, 40"):
        post_hoc_average(trained, 0.1, seen=13)
    with pytest.raises(UserError, match="train with --ema-snapshots"):
        post_hoc_average(tmp_path, 0.1)
    with pytest.raises(UserError, match="an autoencoder, but a latent diffusion is needed"):
        write_post_hoc_average(encoded, tmp_path / "out", 0.1)


def test_a_run_without_snapshots_is_another_run(trained: Path, make_recipe: MakeRecipe) -> None:
    recipe = make_recipe("diffusion")
    with pytest.raises(UserError, match="ema_snapshots: 4 then, 0 now"):
        Trainer(settings(trained, ema=PowerFunctionEMA(gamma=gamma_of(0.10)))).fit(recipe, recipe.train)
