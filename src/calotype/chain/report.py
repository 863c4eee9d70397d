"""The report of a chain: what went in, what came out, in pictures and numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotype.chain.judge import Judgement, Reconstructions, Samples, conditions
from calotype.chain.plan import Plan
from calotype.chain.source import Source
from calotype.chain.stages import loader
from calotype.diffusion import CFG
from calotype.evaluation import Fact, Picture, Report, Section, Table, histogram, loss_curves, side_by_side
from calotype.pipeline import GUIDANCE, STEPS, LatentDiffusion
from calotype.training.logs import read_metrics
from calotype.utils.images import image_grid

COLUMNS, WIDTH = 12, 960
SCALES = (1.0, 2.0, 3.0, 5.0)


def build_report(
    folder: Path,
    plan: Plan,
    reasons: list[str],
    source: Source,
    reconstructions: Reconstructions,
    model: LatentDiffusion,
    judgement: Judgement,
) -> Report:
    """Assemble the report of the chain in ``folder``."""
    return Report(
        title=f"calotype: {source.name}",
        summary=_facts(source, reconstructions, judgement, folder),
        sections=[
            _data(source, plan, reasons),
            _autoencoder(folder, reconstructions),
            _diffusion(folder, judgement),
            *_variations(model, judgement.samples, plan.seed),
            *(_question(name, samples) for name, samples in judgement.questions.items()),
            _nearest(judgement),
            _numbers(judgement),
        ],
    )


def sample_grid(images: Tensor, columns: int = COLUMNS) -> np.ndarray:
    """Return images as one picture (uint8, HWC)."""
    return image_grid(images, columns=min(columns, len(images)))


def _facts(source: Source, reconstructions: Reconstructions, judgement: Judgement, folder: Path) -> list[Fact]:
    facts = [
        Fact(f"{len(source.train)}", "training images", f"{len(source.held_out)} held out"),
        Fact(f"{reconstructions.metrics['psnr']:.1f} dB", "reconstruction PSNR", "held-out images"),
    ]
    metrics = judgement.samples.metrics
    if metrics:
        facts.append(Fact(f"{metrics['kid']['value']:.3f}", metrics["kid"]["name"], "samples against training images"))
        if "caption_agreement" in metrics:
            top = metrics["caption_agreement"]["top_10"]
            facts.append(
                Fact(
                    f"{top['value']:.0%}",
                    "caption agreement",
                    f"own image in the nearest 10; chance {top['chance']:.1%}",
                )
            )
        if "style_agreement" in metrics:
            style = metrics["style_agreement"]
            facts.append(Fact(f"{style['value']:.0%}", "style agreement", f"chance {style['chance']:.0%}"))
    for stage in ("autoencoder", "diffusion"):
        rows = [row for row in read_metrics(folder / stage / "metrics.jsonl") if "samples_per_second" in row]
        if rows:
            facts.append(
                Fact(f"{rows[-1]['samples_per_second']:.0f}/s", f"{stage} training", f"{rows[-1]['samples']} samples")
            )
    return facts


def _data(source: Source, plan: Plan, reasons: list[str]) -> Section:
    train = loader(source.train, plan.size, plan.seed)
    shown = train.order.indices(0, min(2 * COLUMNS, len(train)))
    picture = Picture("Images drawn at random from the training set.", sample_grid(train.at(shown).images), WIDTH)
    return Section("Data and plan", "\n\n".join(reasons), [picture])


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
        [Picture("Held-out originals and reconstructions.", pairs, WIDTH), *curves],
        [table],
    )


def _diffusion(folder: Path, judgement: Judgement) -> Section:
    samples = judgement.samples
    picture = Picture(
        f"The first {min(len(samples.images), 4 * COLUMNS)} samples, none left out: {STEPS} steps of DPM-Solver++(2M), "
        "conditions of training images drawn at random.",
        sample_grid(samples.images[: 4 * COLUMNS]),
        WIDTH,
    )
    curves = _curves(folder / "diffusion", {"train/loss": "training"}, {"validation/loss": "held-out, fixed noise"})
    return Section("Diffusion model", _asked(samples), [picture, *curves])


def _asked(samples: Samples) -> str:
    captions = [caption for caption in samples.fields.get("caption", [])[:COLUMNS] if caption]
    return f"The first row asks for: {'; '.join(captions)}." if captions else ""


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


def _variations(model: LatentDiffusion, samples: Samples, seed: int) -> list[Section]:
    rows = slice(0, min(COLUMNS, len(samples.images)))
    fields = conditions(model, samples.fields, rows)
    if not fields:
        return []
    seeds = range(seed, seed + len(samples.images[rows]))
    strips = [model.sample(seeds=seeds, guidance=CFG(scale), **fields) for scale in SCALES]
    scales = ", ".join(f"{scale:g}" for scale in SCALES)
    sections = [
        Section(
            "Guidance",
            f"The same seeds and conditions with guidance {scales}, from top to bottom; 1 is no guidance, "
            f"{GUIDANCE:g} the default.",
            [Picture("Guidance from low to high.", sample_grid(torch.cat(strips)), WIDTH)],
        )
    ]
    if (styles := style_variations(samples)) is not None:
        captions, names = styles
        drawn = model.sample(
            seeds=[seed + i % (len(captions) // len(names)) for i in range(len(captions))], caption=captions
        )
        sections.append(
            Section(
                "Style variations",
                f"The same concept and seed in every style, from top to bottom: {', '.join(names)}.",
                [Picture("One column, one concept.", sample_grid(drawn, len(captions) // len(names)), WIDTH)],
            )
        )
    return sections


def style_variations(samples: Samples, columns: int = COLUMNS) -> tuple[list[str], list[str]] | None:
    """Return captions of up to ``columns`` concepts in every style, row by row, where there are names and styles."""
    names, styles = samples.fields.get("name"), samples.fields.get("style")
    if not names or not styles or "caption" not in samples.fields:
        return None
    concepts = list(dict.fromkeys(name for name in names if name))[:columns]
    kinds = sorted({style for style in styles if style})
    return [f"{concept}, {style} style" for style in kinds for concept in concepts], kinds


def _question(name: str, samples: Samples) -> Section:
    shown = slice(0, 2 * COLUMNS)
    pairs = side_by_side(samples.real[shown], samples.images[shown], COLUMNS)
    return Section(
        f"Held out: {name}",
        "Above the real images, which training never saw; below samples for their conditions.",
        [Picture(name, pairs, WIDTH)],
    )


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
    return Section(
        "Nearest training images", text, [Picture("Samples and nearest training images.", pairs, WIDTH)], [table]
    )


def _numbers(judgement: Judgement) -> Section:
    if judgement.note:
        return Section("Numbers", judgement.note)
    sets = {"training conditions": judgement.samples, **judgement.questions}
    rows: list[tuple[Any, ...]] = []
    protocols: list[str] = []
    for name, samples in sets.items():
        for label, value, chance, protocol in metric_rows(samples.metrics or {}):
            rows.append((name, label, value, chance, len(samples.images)))
            protocols.append(protocol)
    table = Table(("samples for", "metric", "value", "real images or chance", "samples"), rows)
    return Section("Numbers", "\n\n".join(dict.fromkeys(protocols)), [], [table])


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


def psnr_histogram(found: Reconstructions) -> bytes:
    """Return a histogram of PSNR per image as PNG."""
    from calotype.evaluation import psnr

    values = psnr(found.originals, found.reconstructions).tolist()
    return histogram({"held-out images": values}, "PSNR (dB)")
