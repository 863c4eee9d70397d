"""Models by frozen encoders, of captions, images and neighbours: from training to the command line."""

from pathlib import Path

import pytest
import torch

import calotype as ct
from calotype.artifact import read_artifact
from calotype.chain.judge import judge_samples
from calotype.chain.source import open_source
from calotype.chain.stages import train_diffusion
from calotype.cli import run
from calotype.encoders import EncodingCache
from calotype.pipeline import LatentDiffusion
from calotype.presets import DIFFUSION
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.training.trainer import TrainerConfig
from calotype.utils.errors import UserError
from calotype.utils.images import read_image
from calotype.utils.tensors import load_tensors

FEW = {"samples": 8, "batch_size": 8, "device": "cpu", "precision": "fp32"}


def trained(folder: Path, chain: Path, pictures: Path, task: Task) -> LatentDiffusion:
    train_diffusion(
        DIFFUSION["ldm-debug"],
        open_source(str(pictures)),
        read_artifact(chain, kind="autoencoder"),
        folder / "latents",
        TrainerConfig(out=str(folder / "run"), **FEW),
        start_session("cpu", "fp32"),
        task,
    )
    return ct.load(folder / "run")


@pytest.fixture(scope="module")
def retrieving(chain: Path, picture_folder: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrieving")
    trained(folder, chain, picture_folder, Task(name="retrieve", encoder=str(clip_folder)))
    return folder / "run"


@pytest.fixture(scope="module")
def varying(chain: Path, picture_folder: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("varying")
    trained(folder, chain, picture_folder, Task(name="variations", encoder=str(clip_folder)))
    return folder / "run"


def opened(run: Path) -> LatentDiffusion:
    """Return the model with weights that let every condition through: one step leaves layers that begin at zero."""
    model, generator = ct.load(run), torch.Generator().manual_seed(0)
    for parameter in (*model.network.parameters(), *model.conditioner.parameters()):
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def test_captions_by_a_frozen_encoder_are_trained_and_drawn(
    chain: Path, picture_folder: Path, bert_folder: Path, tmp_path: Path
) -> None:
    model = trained(tmp_path, chain, picture_folder, Task(text=str(bert_folder)))
    (weights,) = tmp_path.glob("run/checkpoints/*/conditioner_ema.safetensors")
    assert {name.split(".")[2] for name in load_tensors(weights)} == {"projection"}
    kept = EncodingCache(tmp_path / "encodings")
    assert len(kept._files) == 6, "each of the captions once, before training"
    drawn = model.sample(caption=["a red wave", ""], seeds=[3, 3], steps=2)
    nothing = model.sample(caption=[None], seeds=[3], steps=2)
    torch.testing.assert_close(drawn[1:], nothing, atol=1e-5, rtol=0)


def test_a_run_brings_the_index_of_its_images(retrieving: Path, picture_folder: Path) -> None:
    model = ct.load(retrieving)
    source = open_source(str(picture_folder))
    assert model.index.contents.names == tuple(record.name for record in source.train.records)
    assert model.conditioner.fields == ("neighbours",)
    judgement = judge_samples(model, source, start_session("cpu", "fp32"), count=4, seed=0)
    assert torch.stack(judgement.samples.conditions["neighbours"]).shape == (4, 4, 8)
    assert len(judgement.questions["unseen images"].images) == len(source.held_out)


def test_samples_depend_on_the_neighbours_and_the_index_can_be_swapped(retrieving: Path) -> None:
    model = opened(retrieving)
    options = {"captions": ["a red wave"], "seeds": [0], "steps": 2, "guidance": ct.CFG(1.0)}
    found = ct.retrieve(model, **options)
    vectors = [model.index.take(found.rows[0])]
    assert torch.equal(found.images, model.sample(seeds=[0], steps=2, guidance=ct.CFG(1.0), neighbours=vectors))
    other = ct.RetrievalIndex(model.index.contents, -model.index.vectors)
    swapped = ct.retrieve(model, index=other, **options)
    assert not torch.equal(swapped.images, found.images)
    assert len(ct.retrieve(model, count=2, **options).rows[0]) == 2
    for wrong, message in (
        ({"count": 9}, "was trained with 4 neighbours"),
        ({"captions": None}, "give either captions or images"),
    ):
        with pytest.raises(UserError, match=message):
            ct.retrieve(model, **{**options, **wrong})


def test_a_model_without_an_index_or_a_reference_says_so(retrieving: Path, varying: Path) -> None:
    with pytest.raises(UserError, match="train one with --task retrieve"):
        ct.retrieve(ct.load(varying), captions=["a"], seeds=[0])
    with pytest.raises(UserError, match="train one with --task variations"):
        ct.variations(ct.load(retrieving), torch.zeros(1, 3, 32, 32), seeds=[0])


def test_variations_depend_on_the_image_alone_where_seeds_are_equal(varying: Path) -> None:
    model = opened(varying)
    images = torch.rand(2, 3, 32, 32)
    drawn = ct.variations(model, images[[0, 1, 0]], seeds=[4, 4, 4], steps=2)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(drawn[1:2], model.sample(reference=[images[1]], seeds=[4], steps=2), atol=1e-5, rtol=0)


def test_the_verbs_draw(
    retrieving: Path, varying: Path, picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, grid, other = str(picture_folder / "03.png"), tmp_path / "grid.png", str(tmp_path / "other.safetensors")
    few = ["--seeds", "0-2", "--steps", "2", "--device", "cpu", "--grid", str(grid)]
    assert run(["variations", str(varying), picture, *few]) == 0
    assert read_image(grid).shape == (36, 4 * 34 + 2, 3), "the picture, then three more"
    assert run(["retrieve", str(retrieving), "--caption", "a red wave", *few]) == 0
    assert read_image(grid).shape == (2 * 34 + 2, 4 * 34 + 2, 3), "four neighbours over three images"
    assert "neighbour: " in capsys.readouterr().out
    assert run(["retrieve", "index", str(retrieving), str(picture_folder), "--out", other, "--device", "cpu"]) == 0
    assert "(24 images, images and words can be looked for)" in capsys.readouterr().out
    assert run(["retrieve", str(retrieving), "--image", picture, "--index", other, "--neighbours", "1", *few]) == 0
    assert "neighbour: 03.png (a red wave" in capsys.readouterr().out
    assert run(["retrieve", str(retrieving), *few]) == 2
    assert "either --caption or --image" in capsys.readouterr().err
    assert run(["retrieve", "index", str(varying), str(picture_folder), "--out", other]) == 2
    assert "looks for no neighbours" in capsys.readouterr().err
