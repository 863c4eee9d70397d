"""Several conditions at once, some of them missing: trained, stopped, loaded, and drawn with any of them."""

import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calotype.artifact import read_artifact
from calotype.chain import stages
from calotype.chain.judge import judge_samples
from calotype.chain.source import Source
from calotype.data.image_set import Record
from calotype.pipeline import LatentDiffusion, load_latent_diffusion
from calotype.presets import find_preset
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.utils.errors import UserError
from tiny import Pictures, autoencoder_artifact, settings

PRESET: Any = find_preset("ldm-debug")
EVERYTHING = Task(name="inpaint", conditions=("caption", "style", "boxes", "segmentation", "palette"))


class Scenes(Pictures):
    """Pictures with every kind of field, each missing from some."""

    source = "scenes"

    def __init__(self, count: int, first: int = 0) -> None:
        super().__init__(count, first)
        fields = [
            {"style": "flat" if i % 2 else "3d", "boxes": [{"class": "wave", "box": [0.0, 0.5, 0.5, 0.5]}]}
            | {"palette": [0.1 * i, 1.0], "segmentation": "a map"}
            for i in range(first, first + count)
        ]
        kept = [
            {name: value for j, (name, value) in enumerate(each.items()) if (i + j) % 4}
            for i, each in enumerate(fields)
        ]
        self.records = tuple(
            Record(each.name, each.fields | more) for each, more in zip(self.records, kept, strict=True)
        )

    def value(self, index: int, name: str) -> Any:
        value = super().value(index, name)
        return np.tile([[0, 1], [2, -1]], (8, 8)).astype(np.int32) if value == "a map" else value

    @cached_property
    def fingerprint(self) -> str:
        return f"scenes {self.first} {len(self)}"


SOURCE = Source(Scenes(24), Scenes(8, 24), {"unseen images": Scenes(8, 24)})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("conditions")
    artifact, session = autoencoder_artifact(root / "ae"), start_session("cpu")
    chosen = settings(root / "ldm", samples=24)
    return stages.train_diffusion(PRESET, SOURCE, artifact, root / "latents", chosen, session, EVERYTHING)


@pytest.fixture(scope="module")
def model(trained: Path) -> LatentDiffusion:
    return load_latent_diffusion(read_artifact(trained))


def test_it_is_conditioned_on_all_of_them(model: LatentDiffusion) -> None:
    assert model.conditioner.fields == ("caption", "style", "boxes", "segmentation", "palette", "masked_image")
    assert [each.kind for each in model.derived] == ["masked_image"]
    assert model.network.config.in_channels == 4 + 16 + 3 + 5, "latents, boxes, map, masked image"


def test_any_of_them_may_be_left_out_in_drawing_but_what_has_no_null(model: LatentDiffusion) -> None:
    hole = (torch.zeros(3, 16, 16), torch.zeros(1, 16, 16))
    boxes = [{"class": "wave", "box": [0.0, 0.0, 1.0, 1.0]}]
    for fields in ({}, {"caption": ["a red wave"]}, {"boxes": [boxes], "style": ["3d"]}, {"palette": [None]}):
        drawn = model.sample(seeds=[0], steps=2, masked_image=[hole], **fields)
        assert torch.isfinite(drawn).all()
    wide = (torch.zeros(3, 16, 32), torch.ones(1, 16, 32))
    assert model.sample(seeds=[0], steps=1, size=(16, 32), masked_image=[wide]).shape == (1, 3, 16, 32)
    with pytest.raises(UserError, match="masked_image: this model needs a value for every image"):
        model.sample(seeds=[0], steps=1, caption=["a red wave"])


def test_every_condition_reaches_the_network(model: LatentDiffusion) -> None:
    known = (torch.rand(3, 16, 16) * 2 - 1, torch.ones(1, 16, 16))
    hole = (known[0], torch.zeros(1, 16, 16))
    fields: dict[str, Any] = {
        "caption": ["a red wave"],
        "style": ["3d"],
        "boxes": [[{"class": "wave", "box": [0.0, 0.0, 0.5, 1.0]}]],
        "segmentation": [torch.zeros(16, 16, dtype=torch.int64)],
        "palette": [[3.0, -3.0]],
        "masked_image": [known],
    }
    whole = model.sample(seeds=[0], steps=2, **fields)
    for name in fields:
        less = {**fields, name: [hole if name == "masked_image" else None]}
        assert not torch.equal(model.sample(seeds=[0], steps=2, **less), whole), name


def test_stopped_and_resumed_it_is_the_same(trained: Path, tmp_path: Path) -> None:
    root = tmp_path / "again"
    shutil.copytree(trained.parents[2], root)
    shutil.rmtree(root / "ldm" / "checkpoints" / trained.name)
    artifact, session = read_artifact(root / "ae"), start_session("cpu")
    chosen = settings(root / "ldm", samples=24)
    again = stages.train_diffusion(PRESET, SOURCE, artifact, root / "latents", chosen, session, EVERYTHING)
    assert again.name == trained.name
    for name in ("network", "conditioner"):
        ours, theirs = (read_artifact(folder).weights(name, "raw") for folder in (again, trained))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_it_is_judged_with_the_conditions_of_each_image(model: LatentDiffusion) -> None:
    judgement = judge_samples(model, SOURCE, start_session("cpu"), count=4, seed=0)
    samples = judgement.questions["unseen images"]
    image, known = samples.conditions["masked_image"][0]
    assert torch.equal(torch.where(known == 1, samples.images[0], 0), torch.where(known == 1, image, 0))
    assert not torch.equal(samples.images[0], image)
