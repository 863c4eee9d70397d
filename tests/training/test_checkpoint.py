import errno
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from calotype.artifact import latest_checkpoint, read_artifact
from calotype.training import checkpoint as module
from calotype.training.checkpoint import load_checkpoint, save_checkpoint
from calotype.training.draws import Draws
from calotype.training.ema import MovingAverage, PowerFunctionEMA
from calotype.training.recipe import Recipe
from calotype.training.session import start_session
from calotype.training.state import training_state
from calotype.utils.errors import UserError
from calotype.utils.files import read_json, write_json
from tiny import BATCH, tensor_files

MakeRecipe = Callable[..., Recipe]
LOGS = {"loss": torch.tensor([0.5, 0.25])}
HEALTH = {"interventions": 1}, {"reconstruction": torch.tensor([0.5])}


class Run:
    """A recipe between two steps, with what the trainer keeps beside it."""

    def __init__(self, recipe: Recipe, steps: int = 1) -> None:
        self.recipe = recipe
        recipe.start(start_session("cpu", "fp32"), BATCH)
        recipe.begin(0)
        self.average = MovingAverage(recipe.averaged, PowerFunctionEMA())
        for step in range(steps):
            recipe.step(recipe.train.batch(step * BATCH, BATCH), Draws(0, step * BATCH, BATCH, slice(None)))
            self.average.update(step + 1)

    def save(self, run: Path, seen: int, **changes: Any) -> Path:
        given = {"logs": LOGS, "health": HEALTH, "kept": {}, "total": 10**6, "keep": 2} | changes
        return save_checkpoint(run, self.recipe, self.average, seen=seen, **given)

    def load(self, run: Path) -> tuple[int, dict[str, Tensor], Any]:
        return load_checkpoint(run, self.recipe, self.average)


@pytest.fixture
def begun(make_recipe: MakeRecipe) -> Run:
    return Run(make_recipe("autoencoder"))


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_round_trip(kind: str, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    before, after = Run(make_recipe(kind), steps=2), Run(make_recipe(kind, weights=1), steps=0)
    before.save(tmp_path / "a", 8)
    seen, logs, (guard, pending, kept) = after.load(tmp_path / "a")
    assert (seen, guard, kept) == (8, HEALTH[0], {})
    assert torch.equal(pending["reconstruction"], HEALTH[1]["reconstruction"])
    assert torch.equal(logs["loss"], LOGS["loss"])
    for name, (optimiser, _) in before.recipe.optimisers.items():
        ours, theirs = optimiser.state_dict()["state"], after.recipe.optimisers[name][0].state_dict()["state"]
        assert ours.keys() == theirs.keys() != set()
        for index, state in ours.items():
            assert all(torch.equal(value, theirs[index][key]) for key, value in state.items())
            assert state["step"] == 2
    ours, theirs = latest_checkpoint(tmp_path / "a"), after.save(tmp_path / "b", 8)
    assert dict(tensor_files(ours)) == dict(tensor_files(theirs))


def test_nothing_to_load(begun: Run, tmp_path: Path) -> None:
    assert begun.load(tmp_path) == (0, {}, None)


def test_a_state_to_go_back_to_is_kept_beside_it(begun: Run, tmp_path: Path) -> None:
    before = training_state(begun.recipe, begun.average)
    begun.recipe.step(begun.recipe.train.batch(4, BATCH), Draws(0, 4, BATCH, slice(None)))
    begun.save(tmp_path, 8, kept=before)
    _, _, (_, _, kept) = begun.load(tmp_path)
    assert kept.keys() == before.keys()
    assert all(torch.equal(kept[key], value) for key, value in before.items())


def test_a_checkpoint_from_before_there_was_a_guard(begun: Run, tmp_path: Path) -> None:
    written = begun.save(tmp_path, 8) / "training.json"
    state = read_json(written)
    del state["health"]
    write_json(written, state)
    assert begun.load(tmp_path)[2] is None


def test_the_newest_are_kept(begun: Run, tmp_path: Path) -> None:
    for seen in (4, 8, 1000, 12345678901):
        begun.save(tmp_path, seen)
    assert names(tmp_path) == ["0000001000", "12345678901"]
    assert latest_checkpoint(tmp_path).name == "12345678901"


@pytest.mark.parametrize("place", ["write_artifact", "save_tensors", "write_json"])
@pytest.mark.parametrize("killed", [True, False])
def test_cut_short_between_files(
    place: str, killed: bool, begun: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there stays whole; a killed writer's litter goes with the next save."""
    first = dict(tensor_files(begun.save(tmp_path, 4)))

    def die(*_: Any, **__: Any) -> None:
        if killed:
            monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)
        raise SystemExit("killed")

    monkeypatch.setattr(module, place, die)
    with pytest.raises(SystemExit):
        begun.save(tmp_path, 8)
    monkeypatch.undo()
    assert names(tmp_path) == ([".0000000008.tmp"] if killed else []) + ["0000000004"]
    assert dict(tensor_files(latest_checkpoint(tmp_path))) == first
    assert begun.load(tmp_path)[0] == 4
    begun.save(tmp_path, 12)
    assert names(tmp_path) == ["0000000004", "0000000012"]


@pytest.mark.parametrize("place", ["calotype.artifact.save_tensors", "os.fsync", "pathlib.Path.rename"])
def test_full_disk(place: str, begun: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dict(tensor_files(begun.save(tmp_path, 4)))
    monkeypatch.setattr(place, full)
    with pytest.raises(UserError, match=r"^cannot write \S+: No space left on device \(\d+ MiB free on that disk\)$"):
        begun.save(tmp_path, 8)
    monkeypatch.undo()
    assert names(tmp_path) == ["0000000004"]
    assert dict(tensor_files(latest_checkpoint(tmp_path))) == first


LIMITED = f"""
import resource, sys, torch
from pathlib import Path
from calotype.utils.files import atomic_folder
from calotype.utils.tensors import save_tensors
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, {resource.RLIM_INFINITY}))
with atomic_folder(Path(sys.argv[1])) as folder:
    save_tensors(folder / "small.safetensors", {{"a": torch.zeros(10)}})
    save_tensors(folder / "large.safetensors", {{"a": torch.zeros(10_000)}})
"""


def test_file_size_limit(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path / "it"], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("calotype.utils.errors.UserError: cannot write")
    assert "File too large" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["autoencoder", "autoencoder_ema", "training"])
def test_damage_is_told_in_one_line(file: str, begun: Run, tmp_path: Path) -> None:
    path = begun.save(tmp_path, 4) / f"{file}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{file}.safetensors cannot be read") as error:
        begun.load(tmp_path)
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(UserError, match=f"{file}.safetensors is missing$"):
        begun.load(tmp_path)


def test_a_checkpoint_is_an_artifact(make_recipe: MakeRecipe, encoded: Path, tmp_path: Path) -> None:
    run = Run(make_recipe("diffusion"))
    artifact = read_artifact(run.save(tmp_path, 4), kind="latent_diffusion")
    assert artifact.provenance["samples_seen"] == 4
    assert artifact.weights("network").keys() == run.recipe.network.state_dict().keys()
    theirs = encoded / "autoencoder_ema.safetensors"
    assert (artifact.folder / "autoencoder.safetensors").samefile(theirs), "linked, not copied"
