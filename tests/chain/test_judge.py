"""Judging a model against images that do not fit it quite."""

import pytest
import torch

import tiny
from calotype.chain.judge import Judgement, judge_autoencoder, judge_samples
from calotype.chain.source import Source
from calotype.chain.stages import check_pixels
from calotype.conditioner import ConditionerConfig, LabelEmbedderConfig
from calotype.data.image_set import Record
from calotype.data.pixel_format import PixelFormat
from calotype.diffusion.schedule import Flow
from calotype.models.unet import UNetConfig
from calotype.pipeline import LatentDiffusion, load_autoencoder
from calotype.training.session import Session
from calotype.utils.errors import UserError


class Labelled(tiny.Pictures):
    def __init__(self, classes: str, first: int = 0) -> None:
        super().__init__(len(classes), first)
        self.records = tuple(Record(str(first + index), {"class": name}) for index, name in enumerate(classes))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LatentDiffusion:
    """An untrained model of the classes a and b."""
    autoencoder = load_autoencoder(tiny.autoencoder_artifact(tmp_path_factory.mktemp("judge") / "autoencoder"))
    torch.manual_seed(0)
    classes = ConditionerConfig(embedders=(LabelEmbedderConfig(classes=("a", "b")),)).build()
    network = UNetConfig(in_channels=4, out_channels=4, channels=64, num_classes=3, head_channels=32).build()
    return LatentDiffusion(
        autoencoder=autoencoder, conditioner=classes, network=network, schedule=Flow(), prediction="flow"
    )


@pytest.fixture(scope="module")
def judgement(model: LatentDiffusion) -> Judgement:
    held_out = Labelled("abc", first=8)
    source = Source(Labelled("abababab"), held_out, {"unseen": held_out})
    return judge_samples(model, source, Session(torch.device("cpu"), bf16=False), count=9, seed=4)


def test_a_class_that_training_never_saw_is_the_null(model: LatentDiffusion, judgement: Judgement) -> None:
    drawn = judgement.questions["unseen"]
    assert drawn.fields["class"] == ["a", "b", "c"]
    expected = model.sample(seeds=[4, 5, 6], **{"class": ["a", "b", None]})
    torch.testing.assert_close(drawn.images, expected, rtol=0, atol=1e-4)


def test_more_samples_than_images_go_round(judgement: Judgement) -> None:
    assert len(judgement.samples.images) == 9
    assert judgement.samples.fields["class"].count("a") in (4, 5)
    assert list(judgement.sets) == ["training conditions", "unseen"]
    metrics = judgement.samples.metrics
    assert metrics is not None
    assert metrics["kid"]["n"] == 9
    assert metrics["class_agreement"]["n"] == 9


def test_the_nearest_training_images_belong_to_the_samples(judgement: Judgement) -> None:
    train = (torch.stack([torch.from_numpy(tiny.Pictures(8).pixels(i)) for i in range(8)]) / 127.5 - 1).permute(
        0, 3, 1, 2
    )
    distances = (judgement.samples.images[:, None] - train[None]).square().mean((2, 3, 4))
    torch.testing.assert_close(judgement.nearest, train[distances.argmin(1)], rtol=0, atol=1e-5)


def test_reconstructions_are_limited_and_measured(model: LatentDiffusion) -> None:
    found = judge_autoencoder(model.first_stage, tiny.Pictures(9), limit=5)
    assert found.metrics["n"] == 5
    torch.testing.assert_close(found.reconstructions, model.first_stage.reconstruct(found.originals), rtol=0, atol=1e-4)


def test_other_pixels_are_refused(model: LatentDiffusion) -> None:
    images = tiny.Pictures(8)
    check_pixels(images, model.first_stage)
    images.pixel_format = PixelFormat(channels=1, dtype="uint16", high=65535.0)
    with pytest.raises(UserError, match="pictures has 1 channel of uint16, but the model was trained on 3 channels of"):
        check_pixels(images, model.first_stage)
