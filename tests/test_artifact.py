import json
from pathlib import Path
from typing import Any

import pytest
import torch

from calotype.artifact import latest_checkpoint, read_artifact, resolve, write_artifact, write_config
from calotype.utils.errors import UserError

STATE = {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(4)}


def artifact(folder: Path, kind: str = "autoencoder", **components: Any) -> Path:
    components = components or {"autoencoder": STATE}
    write_artifact(folder, kind=kind, config={"size": 16}, components=components, provenance={"seed": 0})
    return folder


def run(folder: Path, *samples: int) -> Path:
    write_config(folder, kind="training_run", config={}, provenance={})
    for seen in samples:
        artifact(folder / "checkpoints" / f"{seen:010d}")
    return folder


def rewrite(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / "config.json").read_text())
    kept = {key: value for key, value in {**data, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


def test_round_trip(tmp_path: Path) -> None:
    found = read_artifact(artifact(tmp_path / "it"), kind="autoencoder")
    assert (found.kind, found.config, found.provenance["seed"]) == ("autoencoder", {"size": 16}, 0)
    assert {"calotype", "torch", "python"} <= found.provenance.keys()
    assert found.weights("autoencoder").keys() == STATE.keys()
    assert all(torch.equal(value, STATE[key]) for key, value in found.weights("autoencoder").items())


def test_averaged_weights_unless_raw_ones_are_asked_for(tmp_path: Path) -> None:
    averaged = {"weight": torch.zeros(2)}
    both = read_artifact(artifact(tmp_path / "both", net=STATE, net_ema=averaged))
    assert both.weights("net").keys() == {"weight"}
    assert both.weights("net", "raw").keys() == STATE.keys()
    assert both.file("net").name == "net_ema.safetensors"
    plain = read_artifact(artifact(tmp_path / "plain", net=STATE))
    assert plain.weights("net").keys() == STATE.keys()


def test_a_file_is_linked_or_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = artifact(tmp_path / "a") / "autoencoder.safetensors"
    assert (artifact(tmp_path / "linked", net=theirs) / "net.safetensors").samefile(theirs)

    def cannot(*_: Any) -> None:
        raise OSError("no links on this disk")

    monkeypatch.setattr("os.link", cannot)
    copy = artifact(tmp_path / "copied", net=theirs) / "net.safetensors"
    assert not copy.samefile(theirs)
    assert copy.read_bytes() == theirs.read_bytes()


def test_a_run_stands_for_its_newest_checkpoint(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", 8, 1000, 24)
    (folder / "checkpoints" / ".0000002000.tmp").mkdir()
    assert resolve(folder) == latest_checkpoint(folder) == folder / "checkpoints" / f"{1000:010d}"
    assert read_artifact(str(folder)).folder == resolve(folder)
    assert resolve(resolve(folder)) == resolve(folder)


def test_a_chain_stands_for_its_last_stage(tmp_path: Path) -> None:
    write_config(tmp_path, kind="chain", config={}, provenance={})
    with pytest.raises(UserError, match="has no checkpoint yet: run its command again"):
        resolve(tmp_path)
    run(tmp_path / "autoencoder", 8)
    run(tmp_path / "diffusion")
    assert resolve(tmp_path).parent.parent.name == "autoencoder"
    artifact(tmp_path / "diffusion" / "checkpoints" / "4")
    assert resolve(tmp_path).parent.parent.name == "diffusion"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, r"was written by a newer calotype \(format 2, this reads 1\)"),
        ({"format": "other"}, "config.json is not calotype's"),
        ({"format": None}, "config.json is not calotype's"),
        ({"config": None, "kind": None}, "config.json is incomplete: it lacks config, kind"),
    ],
)
def test_a_configuration_that_cannot_be_read(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    rewrite(artifact(tmp_path / "it"), **changes)
    with pytest.raises(UserError, match=message) as error:
        read_artifact(tmp_path / "it")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[]", "3", "{", "\xff"])
def test_a_configuration_that_is_none(text: str, tmp_path: Path) -> None:
    (artifact(tmp_path / "it") / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"config.json (is not calotype's|cannot be read as JSON)"):
        read_artifact(tmp_path / "it")


def test_another_kind_is_named(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "it", kind="latent_diffusion")
    with pytest.raises(UserError, match="holds a latent diffusion, but an autoencoder is needed here"):
        read_artifact(folder, kind="autoencoder")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none does not exist"):
        read_artifact(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds nothing that calotype trained \(no config.json\)"):
        read_artifact(tmp_path)


def test_weights_that_are_cut_short_or_missing(tmp_path: Path) -> None:
    found = read_artifact(artifact(tmp_path / "it"))
    path = found.file("autoencoder")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"autoencoder.safetensors cannot be read: "):
        found.weights("autoencoder")
    with pytest.raises(UserError, match=r"network.safetensors is missing$"):
        found.weights("network")
