"""What a trained chain is worth: reconstructions and samples with their numbers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from calotype.chain.source import Source
from calotype.chain.stages import loader
from calotype.data.batch import Batch
from calotype.data.fields import FieldReader
from calotype.data.image_set import ImageSet
from calotype.data.loader import Loader
from calotype.data.order import Order
from calotype.diffusion.known_region import composite
from calotype.encoders import EfficientNetLite0Features
from calotype.evaluation import (
    AutoencoderEvaluation,
    FeatureSet,
    Instruments,
    evaluate_autoencoder,
    evaluate_likelihood,
    generation_metrics,
    memorisation,
    nearest_images,
    reconstruction_metrics,
)
from calotype.pipeline import LatentDiffusion, TrainedAutoencoder
from calotype.tasks.retrieve import lookups
from calotype.training.session import Session
from calotype.utils.errors import UserError
from calotype.utils.progress import Progress
from calotype.utils.progress import progress as show_progress
from calotype.utils.size import Size, height_width

MOST_REAL, MOST_ASKED, MOST_LIKELY, FITTED_ON = 4_096, 256, 256, 256
MOST_PIXELS = 2**22


@dataclass(frozen=True)
class Reconstructions:
    """Originals, what the autoencoder makes of them, and the numbers."""

    originals: Tensor
    reconstructions: Tensor
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Samples:
    """Samples with what was asked for, the real images whose fields were asked for, and the numbers.

    ``conditions`` are those of the ``fields`` that the model takes, and those made from the real images.
    """

    images: Tensor
    fields: dict[str, list[Any]]
    conditions: dict[str, Any]
    real: Tensor
    metrics: dict[str, Any] | None


@dataclass(frozen=True)
class Judgement:
    """All that the report shows of the diffusion model: samples for training conditions and for every held-out set.

    ``fields`` are what the model is conditioned on; without any there are no ``questions``.
    """

    fields: tuple[str, ...]
    samples: Samples
    questions: dict[str, Samples]
    nearest: Tensor
    copies: dict[str, Any]
    note: str = ""

    @property
    def sets(self) -> dict[str, Samples]:
        """All sets of samples by what they were drawn for."""
        return {"training conditions" if self.fields else "no conditions": self.samples, **self.questions}


def judge_autoencoder(autoencoder: TrainedAutoencoder, images: ImageSet, limit: int = 512) -> Reconstructions:
    """Reconstruct up to ``limit`` images and measure PSNR and SSIM."""
    source = loader(images.in_format(autoencoder.pixel_format), autoencoder.size, 0)
    originals = source.at(range(min(limit, len(source)))).images
    reconstructions = torch.cat([autoencoder.reconstruct(part) for part in originals.split(64)])
    return Reconstructions(originals, reconstructions, reconstruction_metrics(originals, reconstructions))


def examine_autoencoder(
    autoencoder: TrainedAutoencoder, images: ImageSet, instruments: Instruments, *, most: int, size: Size | None = None
) -> AutoencoderEvaluation:
    """Measure all that there is to measure of an autoencoder on ``images``, with a progress bar.

    Of more than ``most`` images as many are drawn, always the same. ``size`` is that of training unless given.

    Raises:
        UserError: as ``evaluate_autoencoder``, or the images have another format.
    """
    source = loader(images.in_format(autoencoder.pixel_format), size or autoencoder.size, 0)
    chosen = sorted(Order(0, len(source)).indices(0, min(most, len(source))))
    chunk = max(1, min(64, MOST_PIXELS // math.prod(height_width(size or autoencoder.size))))

    def batches(bar: Progress) -> Iterator[tuple[list[str], Tensor]]:
        for start in range(0, len(chosen), chunk):
            part = chosen[start : start + chunk]
            yield [images.records[index].name for index in part], source.at(part).images
            bar.advance(len(part))

    with show_progress("judging", len(chosen)) as bar:
        return evaluate_autoencoder(autoencoder.model, batches(bar), instruments, autoencoder.pixel_format)


def judge_likelihood(model: LatentDiffusion | TrainedAutoencoder, source: Source, *, most: int) -> dict[str, Any]:
    """Measure bits per value of up to ``most`` held-out images (and 256 of them), with a progress bar.

    Raises:
        UserError: as ``evaluate_likelihood``, or the images have another format.
    """
    first_stage = model if isinstance(model, TrainedAutoencoder) else model.first_stage
    source = source.in_format(first_stage.pixel_format)
    train, held_out = (loader(images, first_stage.size, 0) for images in (source.train, source.held_out))
    order = Order(0, len(train)).indices(0, min(FITTED_ON, len(train)))
    chosen = sorted(Order(0, len(held_out)).indices(0, min(most, len(held_out), MOST_LIKELY)))
    size = max(1, min(64, MOST_PIXELS // math.prod(height_width(first_stage.size)) // 4))
    reader = _reader(model, held_out) if isinstance(model, LatentDiffusion) else None

    def batches(bar: Progress) -> Iterator[Batch]:
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size]
            yield held_out.at(part) if reader is None else replace(held_out.at(part), fields=reader.at(part))
            bar.advance(len(chosen[start : start + size]))

    with show_progress("likelihood", len(chosen)) as bar:
        return evaluate_likelihood(model, train.at(sorted(order)), batches(bar))


def judge_samples(
    model: LatentDiffusion, source: Source, session: Session, *, count: int, seed: int, progress: bool = False
) -> Judgement:
    """Draw ``count`` samples for the conditions of training images, and one for each held-out image; measure them.

    Sample i has seed ``seed + i`` and is drawn in the session's precision; everything is measured in float32. Features
    are compared with all training images (at most 4096 of them).
    """
    source = source.in_format(model.pixel_format)
    train = loader(source.train, model.first_stage.size, 0)
    order = Order(0, len(train))
    real = train.at(sorted(order.indices(0, min(len(train), MOST_REAL))))
    asked, asked_for = _asked(model, train, order.indices(0, count))

    def draw(conditions: dict[str, Any], count: int) -> Tensor:
        seeds = range(seed, seed + count)
        with session.autocast():
            drawn = model.sample(seeds=seeds, batch_size=64, progress=progress, **conditions)
        return _completed(drawn, conditions)

    features, note = _features(model)
    known = None if features is None else FeatureSet(features(real.images), real.fields)
    seen: dict[tuple[str, ...], tuple[Batch, dict[str, Any], FeatureSet | None]] = {}

    def held_out(images: ImageSet) -> tuple[Batch, dict[str, Any], FeatureSet | None]:
        """The first of the images with their features, which are computed once for all sets of these images."""
        names = tuple(record.name for record in images.records)
        if names not in seen:
            source = loader(images, model.first_stage.size, 0)
            batch, conditions = _asked(model, source, range(min(len(images), MOST_ASKED)))
            known = None if features is None else FeatureSet(features(batch.images), batch.fields)
            seen[names] = batch, conditions, known
        return seen[names]

    def measured(drawn: Tensor, fields: dict[str, list[Any]], unseen: FeatureSet | None) -> Any:
        if features is None or known is None or unseen is None or len(drawn) < 3 or len(known) < 6:
            return None
        told = [name for name in model.conditioner.fields if name in ("caption", "class")]
        told += [name for name in ("style", "class") if len(set(fields.get(name, ()))) > 1]
        shown = {name: values for name, values in fields.items() if name in told}
        return generation_metrics(FeatureSet(features(drawn), shown), unseen, known)

    images = draw(asked_for, count)
    own, _, own_features = held_out(source.held_out)
    questions = {}
    for name, asking in source.questions.items() if model.conditioner.fields else ():
        batch, conditions, unseen = held_out(asking)
        drawn = draw(conditions, len(batch))
        metrics = measured(drawn, batch.fields, unseen)
        questions[name] = Samples(drawn, batch.fields, conditions, batch.images, metrics)
    nearest = nearest_images(images, real.images).indices[:, 0]
    return Judgement(
        fields=model.conditioner.fields,
        samples=Samples(images, asked.fields, asked_for, asked.images, measured(images, asked.fields, own_features)),
        questions=questions,
        nearest=real.images[nearest],
        copies=memorisation(images, own.images, real.images).summary(),
        note=note,
    )


def _asked(model: LatentDiffusion, source: Loader, indices: Sequence[int]) -> tuple[Batch, dict[str, Any]]:
    """Return images with the conditions that the model takes of them."""
    return source.at(indices), model.conditioner.known(_reader(model, source).at(indices))


def _reader(model: LatentDiffusion, source: Loader) -> FieldReader:
    looked_up = lookups(model.conditioner.config, model.index, source, model.device)
    return FieldReader(source, model.conditioner.fields, model.derived, looked_up)


def _completed(drawn: Tensor, conditions: dict[str, Any]) -> Tensor:
    """Return samples with the pixels that were known, where some were."""
    pairs = conditions.get("masked_image")
    if pairs is None:
        return drawn
    kept, known = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    return composite(kept, drawn, known)


def _features(model: LatentDiffusion) -> tuple[EfficientNetLite0Features | None, str]:
    if model.pixel_format.channels not in (1, 3):
        return None, f"no feature distances: they need 1 or 3 channels, not {model.pixel_format.channels}"
    try:
        return EfficientNetLite0Features(), ""
    except UserError as error:
        return None, f"no feature distances: {error}"
