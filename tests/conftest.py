"""Tests run on one thread: two cores that are busy elsewhere make two threads far slower than one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import pretrained
import tiny
from calotype.chain.run import run_chain
from calotype.utils.images import save_png

torch.set_num_threads(1)
STYLES = ("thin", "thick")


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 small pictures with captions that name their style."""
    folder, pictures, lines = tmp_path_factory.mktemp("pictures"), tiny.Pictures(24), []
    for index, record in enumerate(pictures.records):
        style = STYLES[index % 2]
        save_png(folder / f"{index:02}.png", pictures.pixels(index))
        caption = f"{record.fields['caption']}, {style} style"
        lines.append(json.dumps({"file_name": f"{index:02}.png", "caption": caption, "style": style}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def chain(picture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished chain of debug size on those pictures, as `calotype run` makes it."""
    out = tmp_path_factory.mktemp("chain") / "run"
    run_chain(str(picture_folder), out, minutes=0.01, size=32, device="cpu")
    return out


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small frozen text encoder."""
    return pretrained.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small frozen encoder of texts and images."""
    return pretrained.save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Gives every parameter a random value, in float64, and turns dropout off: no zero start hides a mistake."""

    def randomise(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        for parameter in module.double().parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        return module.eval()

    return randomise
