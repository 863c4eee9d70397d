"""The rows of the released models are what the original's configurations say."""

import json
import lzma
import re
from pathlib import Path

import pytest
import torch

from calotype.cli import run
from calotype.interop.original import original_config
from calotype.presets.listing import preset_details, preset_lines
from calotype.presets.released import RELEASED, released_config
from calotype.utils.errors import UserError

MANIFESTS = json.loads(lzma.decompress((Path(__file__).parents[1] / "interop" / "manifests.json.xz").read_bytes()))
CALLED = {"txt2img-1p4B-eval": "txt2img-1p4B", "768x768": "rdm768x768", "v1-inference": "stable-diffusion-v1"}


def released_as(name: str) -> str:
    last = re.split(r"__|/", name)[-1]
    return CALLED.get(last, last)


RECORDED = {name: row for name, row in MANIFESTS.items() if released_as(name) in RELEASED}


def test_every_row_was_recorded() -> None:
    assert {released_as(name) for name in RECORDED} == RELEASED.keys()


@pytest.mark.parametrize("name", RECORDED)
def test_a_row_equals_its_configuration(name: str) -> None:
    assert original_config(RECORDED[name]["model"]) == RELEASED[released_as(name)].original


@pytest.mark.parametrize("name", RELEASED)
def test_parameters_are_counted(name: str) -> None:
    original = RELEASED[name].original
    with torch.device("meta"):
        module = (original.autoencoder if original.diffusion is None else original.diffusion.network).build()
    assert sum(weight.numel() for weight in module.parameters()) == RELEASED[name].parameters


def test_configurations_by_name_by_file_and_neither(tmp_path: Path) -> None:
    assert released_config("celeba256") is RELEASED["celeba256"].original
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"model": RECORDED["first_stage_models/kl-f8"]["model"]}))
    assert released_config(str(file)) == RELEASED["kl-f8"].original
    with pytest.raises(UserError, match="celeba256"):
        released_config("celeba-256")


def test_the_list_names_every_preset_and_details_tell_how_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    listed = "\n".join(preset_lines())
    assert all(name in listed and row.published in listed for name, row in RELEASED.items())
    details = "\n".join(preset_details("cin256-v2"))
    assert "calotype sample --original CHECKPOINT --config cin256-v2 --class" in details
    assert "400,920,579" in details
    assert "calotype train kl-f8" in "\n".join(preset_details("kl-f8"))
    assert run(["presets", "cin256"]) == 0
    assert "cin.zip" in capsys.readouterr().out
    assert run(["presets", "cin255"]) == 2
    assert run(["train", "cin256", "--data", "x", "--out", "y"]) == 2
    assert "released weights, not a preset to train by" in capsys.readouterr().err
