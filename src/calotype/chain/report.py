"""The report of a chain: what went in, what came out, in pictures and numbers."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from torch import Tensor

from calotype.chain.judge import Judgement, Reconstructions, Samples
from calotype.chain.plan import Plan
from calotype.chain.source import Source
from calotype.chain.stages import loader
from calotype.chain.variations import COLUMNS, Variations
from calotype.evaluation import Fact, Picture, Report, Section, Table, loss_curves, side_by_side
from calotype.pipeline import GUIDANCE, STEPS
from calotype.tasks.condition_pictures import condition_pictures
from calotype.training.logs import read_metrics
from calotype.utils.images import image_grid

WIDTH = 960
TOLD = ("caption", "class")


def build_report(
    folder: Path,
    plan: Plan,
    source: Source,
    reconstructions: Reconstructions,
    judgement: Judgement,
    guidance: Variations | None,
    styles: Variations | None,
) -> Report:
    """Assemble the report of the chain in ``folder``."""
    return Report(
        title=f"calotype: {source.name}",
        summary=_facts(source, reconstructions, judgement, folder),
        sections=[
            _data(source, plan),
            _autoencoder(folder, reconstructions),
            _diffusion(folder, judgement),
            *_guidance(guidance),
            *_styles(styles),
            *(_question(name, samples) for name, samples in judgement.questions.items()),
            _nearest(judgement),
            _numbers(judgement),
        ],
    )


def sample_grid(images: Tensor, columns: int = COLUMNS) -> np.ndarray:
    """Return images as one picture (uint8, HWC)."""
    return image_grid(images, columns=min(columns, len(images)))


def _picture(caption: str, pixels: np.ndarray) -> Picture:
    """Show a grid as wide as the page, but few images no more than twice their size."""
    return Picture(caption, pixels, min(WIDTH, 2 * pixels.shape[1]))


def _facts(source: Source, reconstructions: Reconstructions, judgement: Judgement, folder: Path) -> list[Fact]:
    facts = [
        Fact(f"{len(source.train)}", "training images", f"{len(source.held_out)} held out"),
        Fact(f"{reconstructions.metrics['psnr']:.1f} dB", "reconstruction PSNR", "held-out images"),
    ]
    metrics = judgement.samples.metrics
    if metrics:
        facts.append(Fact(f"{metrics['kid']['value']:.3f}", metrics["kid"]["name"], "samples against training images"))
        if agreement := metrics.get("caption_agreement"):
            most = max(int(name.removeprefix("top_")) for name in agreement if name.startswith("top_"))
            top = agreement[f"top_{most}"]
            note = f"own image in the nearest {most}; chance {top['chance']:.1%}"
            facts.append(Fact(f"{top['value']:.0%}", "caption agreement", note))
        for label in ("style", "class"):
            if found := metrics.get(f"{label}_agreement"):
                facts.append(Fact(f"{found['value']:.0%}", f"{label} agreement", f"chance {found['chance']:.0%}"))
    for stage in ("autoencoder", "diffusion"):
        rows = [row for row in read_metrics(folder / stage / "metrics.jsonl") if "samples_per_second" in row]
        if rows:
            facts.append(
                Fact(f"{rows[-1]['samples_per_second']:.0f}/s", f"{stage} training", f"{rows[-1]['samples']} samples")
            )
    return facts


def _data(source: Source, plan: Plan) -> Section:
    train = loader(source.train, plan.size, plan.seed)
    shown = train.order.batch(0, min(2 * COLUMNS, len(train)))
    picture = _picture("Images drawn at random from the training set.", sample_grid(train.at(shown).images))
    return Section("Data and plan", "\n\n".join(plan.reasons), [picture])


def _autoencoder(folder: Path, found: Reconstructions) -> Section:
    shown = slice(0, 2 * COLUMNS)
    pairs = side_by_side(found.originals[shown], found.reconstructions[shown], COLUMNS)
    metrics = found.metrics
    table = Table(
        ("images", "PSNR (dB)", "PSNR, worst 5 %", "SSIM", "mean |error|"),
        [(metrics["n"], metrics["psnr"], metrics["psnr_p5"], metrics.get("ssim"), metrics["l1"])],
        metrics["protocol"],
    )
    curves = _curves(folder / "autoencoder", {"train/loss": "training"}, {"validation/psnr": "held-out PSNR (dB)"})
    return Section(
        "Autoencoder",
        "Held-out images above, their reconstructions below.",
        [_picture("Held-out originals and reconstructions.", pairs), *curves],
        [table],
    )


def _diffusion(folder: Path, judgement: Judgement) -> Section:
    samples = judgement.samples
    conditions = "conditions of training images drawn at random" if judgement.fields else "without conditions"
    picture = _picture(
        f"The first {min(len(samples.images), 4 * COLUMNS)} samples, none left out: {STEPS} steps of DPM-Solver++(2M), "
        f"{conditions}.",
        sample_grid(samples.images[: 4 * COLUMNS]),
    )
    curves = _curves(
        folder / "diffusion", {"train/loss": "training"}, {"validation/loss": "held-out loss, fixed noise"}
    )
    return Section("Diffusion model", _asked(samples, judgement.fields), [picture, *curves])


def _asked(samples: Samples, fields: Sequence[str]) -> str:
    """Say what the first row of samples was asked to show."""
    told = [values for name, values in samples.fields.items() if name in fields and name in TOLD]
    rows = [[values[row] for values in told] for row in range(min(COLUMNS, len(samples.images)))]
    asked = [shorten(" ".join(str(value) for value in row if value is not None), 80) for row in rows]
    return f"The first row asks for: {'; '.join(text or 'anything' for text in asked)}." if any(asked) else ""


def _curves(run: Path, training: dict[str, str], validation: dict[str, str]) -> list[Picture]:
    rows = read_metrics(run / "metrics.jsonl")
    pictures = []
    for group, label in ((training, "loss"), (validation, next(iter(validation.values())))):
        known = {name: legend for name, legend in group.items() if any(row.get(name) is not None for row in rows)}
        if known:
            pictures.append(
                Picture(f"{run.name}: {label} over samples seen.", loss_curves(rows, training=known, ylabel=label), 640)
            )
    return pictures


def _guidance(varied: Variations | None) -> list[Section]:
    if varied is None:
        return []
    text = (
        f"The same seeds and conditions with guidance {', '.join(varied.rows)}, from top to bottom; 1 is no guidance, "
        f"{GUIDANCE:g} the default."
    )
    return [Section("Guidance", text, [_picture("Guidance from low to high.", varied.grid)])]


def _styles(varied: Variations | None) -> list[Section]:
    if varied is None:
        return []
    text = f"The same concept and seed in every style, from top to bottom: {', '.join(varied.rows)}."
    return [Section("Style variations", text, [_picture("One column, one concept.", varied.grid)])]


def _question(name: str, samples: Samples) -> Section:
    shown = slice(0, 2 * COLUMNS)
    drawn = samples.images[shown]
    pictures = [_picture(f"Real images and samples: {name}.", side_by_side(samples.real[shown], drawn, COLUMNS))]
    given = {name: values[shown] for name, values in samples.conditions.items()}
    asked = condition_pictures(given, (samples.real.shape[2], samples.real.shape[3]))
    if asked is not None:
        pictures.append(_picture(f"What was given and samples: {name}.", side_by_side(asked, _colours(drawn), COLUMNS)))
    return Section(
        name.capitalize(), "Above real images, which training never saw; below samples for their conditions.", pictures
    )


def _colours(images: Tensor) -> Tensor:
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


def _nearest(judgement: Judgement) -> Section:
    count = min(2 * COLUMNS, len(judgement.nearest))
    pairs = side_by_side(judgement.samples.images[:count], judgement.nearest[:count], COLUMNS)
    copies = judgement.copies
    table = Table(
        ("", "share of copies", "median distance", "images"),
        [
            ("samples", copies["copies"], copies["median_distance"], copies["n_samples"]),
            ("held-out images", copies["held_out_copies"], copies["held_out_median_distance"], copies["n_held_out"]),
        ],
        f"{copies['protocol']} Threshold: {copies['threshold']:g}.",
    )
    text = "Samples above, below each its nearest training image: are they copies?"
    return Section("Nearest training images", text, [_picture("Samples and nearest training images.", pairs)], [table])


def _numbers(judgement: Judgement) -> Section:
    if judgement.note:
        return Section("Numbers", judgement.note)
    rows: list[tuple[Any, ...]] = []
    methods: list[str] = []
    for name, samples in judgement.sets.items():
        for label, value, chance, protocol in metric_rows(samples.metrics or {}):
            rows.append((name, label, value, chance, len(samples.images)))
            methods.append(protocol.rpartition("). ")[2])  # without the numbers of images, which differ from row to row
    if not rows:
        return Section("Numbers", "Too few images to measure samples.")
    table = Table(("samples for", "metric", "value", "real images or chance", "samples"), rows)
    notes = "\n\n".join(dict.fromkeys(methods))
    return Section("Numbers", f"{notes}\n\nmetrics.json has each number with its full protocol.", [], [table])


def metric_rows(metrics: dict[str, Any]) -> list[tuple[str, float, float | None, str]]:
    """Return (name, value, what real images or chance would give, protocol) of the metrics that there are."""
    baseline = metrics.get("real_baseline", {})
    rows: list[tuple[str, float, float | None, str]] = []
    for key, label in (
        ("kid", "against training images"),
        ("kid_held_out", "against the held-out images"),
        ("fd", "against training images"),
    ):
        if key in metrics:
            real = baseline.get(key, {}).get("value")
            rows.append((f"{metrics[key]['name']} {label}", metrics[key]["value"], real, metrics[key]["protocol"]))
    if agreement := metrics.get("caption_agreement"):
        for top in (name for name in agreement if name.startswith("top_")):
            label = f"caption agreement, {top.replace('_', ' ')}"
            rows.append((label, agreement[top]["value"], agreement[top]["chance"], agreement["protocol"]))
    for label in ("style", "class"):
        if found := metrics.get(f"{label}_agreement"):
            rows.append((f"{label} agreement", found["value"], found["chance"], found["protocol"]))
    return rows
