"""What is shown of an autoencoder's evaluation: a table of all numbers, pictures, and a report in one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype.evaluation.autoencoder import AutoencoderEvaluation, Pair
from calotype.evaluation.pictures import labelled_pairs
from calotype.evaluation.plots import histogram, spectra
from calotype.evaluation.report import Fact, Picture, Report, Section, Table
from calotype.utils.files import atomic_write, write_json
from calotype.utils.images import save_png

COLUMNS = 8
MOST_CHANNELS = 64


@dataclass(frozen=True)
class Row:
    """One number as text, what gives it a scale, and how it was measured."""

    measure: str
    value: str
    scale: str = ""
    protocol: str = ""


def evaluation_rows(metrics: dict[str, Any]) -> list[Row]:
    """Return the numbers of ``evaluate_autoencoder`` as rows of a table; what is missing has its reason as scale."""
    found, rows = metrics["reconstruction"], []
    rows += [
        Row("PSNR", f"{found['psnr']:.2f} dB", protocol=found["protocol"]),
        Row("PSNR, worst 5 %", f"{found['psnr_p5']:.2f} dB", protocol="The 5th percentile over images."),
    ]
    if "ssim" in found:
        rows.append(Row("SSIM", f"{found['ssim']:.4f}", protocol=found["protocol"]))
    if found["outside"]:
        rows.append(Row("pixels beyond the range", f"{found['outside']:.2%}", "of the format of the training images"))
    rows += _channel_rows(metrics["channels"])
    rows.append(Row("mean absolute difference", f"{found['l1']:.4f}", protocol=found["protocol"]))
    if perceptual := metrics.get("perceptual"):
        scale = f"95 % of images below {perceptual['p95']:.4f}"
        rows.append(Row(perceptual["name"], f"{perceptual['value']:.4f}", scale, perceptual["protocol"]))
    for distances in metrics.get("distances", {}).values():
        rows += _distances(distances)
    if codebook := metrics.get("codebook"):
        rows += [
            Row("codes used", str(codebook["used"]), f"of {codebook['codes']}", codebook["protocol"]),
            Row("codebook perplexity", f"{codebook['perplexity']:.1f}", f"{codebook['bits']:.2f} bits a position"),
        ]
    rows += [*_latents(metrics["latents"]), *_diffusability(metrics["diffusability"])]
    return rows + [Row(name, "-", reason) for name, reason in metrics.get("missing", {}).items()]


def text_table(rows: list[Row]) -> str:
    """Return the rows as lines of aligned text, without the protocols."""
    wide, narrow = max(len(row.measure) for row in rows), max(len(row.value) for row in rows)
    lines = [f"{row.measure:<{wide}}  {row.value:>{narrow}}  {row.scale}" for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def worst_cases(evaluation: AutoencoderEvaluation) -> Any:
    """Return the picture of the worst pairs, originals above reconstructions, each with its PSNR: uint8, HWC."""
    return _pairs(evaluation.worst)


def build_report(evaluation: AutoencoderEvaluation, title: str, about: str, further: Sequence[Section] = ()) -> Report:
    """Assemble the report; ``about`` says what was measured, and ``further`` sections come before the protocols."""
    metrics, rows = evaluation.metrics, evaluation_rows(evaluation.metrics)
    table = Table(("measure", "value", "for scale"), [(row.measure, row.value, row.scale) for row in rows])
    protocols = "\n\n".join(f"{row.measure}: {row.protocol}" for row in rows if row.protocol)
    worst = Table(("image", "PSNR (dB)"), [(pair.name, pair.psnr) for pair in evaluation.worst])
    frequencies = Picture("Power over spatial frequency.", spectra(evaluation.spectra), 640)
    decibels = {"images": evaluation.values["psnr"].tolist()}
    return Report(
        title=title,
        summary=_facts(metrics, rows),
        sections=[
            Section("Numbers", about, tables=[table]),
            Section(
                "Reconstructions",
                "Originals above, reconstructions below.",
                [_picture("The first images, each with its PSNR.", _pairs(evaluation.shown))],
            ),
            Section(
                "Worst cases",
                "The images of least PSNR, worst first.",
                [
                    _picture("Originals above reconstructions.", worst_cases(evaluation)),
                    Picture("PSNR over images.", histogram(decibels, "PSNR (dB)"), 640),
                ],
                [worst],
            ),
            Section("Channels", metrics["channels"]["protocol"], tables=[_channels(metrics["channels"])]),
            Section("Latents", metrics["latents"]["protocol"], tables=[_channels(metrics["latents"])]),
            Section(
                "Diffusability",
                "\n\n".join(found["protocol"] for found in metrics["diffusability"].values()),
                [frequencies],
            ),
            *further,
            Section("Protocols", protocols),
        ],
    )


def write_evaluation(out: Path, evaluation: AutoencoderEvaluation, report: Report, metrics: dict[str, Any]) -> None:
    """Write report.html, metrics.json, worst.png, reconstructions.png and spectra.png into the folder ``out``."""
    save_png(out / "worst.png", worst_cases(evaluation))
    save_png(out / "reconstructions.png", _pairs(evaluation.shown))
    with atomic_write(out / "spectra.png") as temporary:
        temporary.write_bytes(spectra(evaluation.spectra))
    write_json(out / "metrics.json", metrics)
    report.write(out / "report.html")


def _channel_rows(found: dict[str, Any]) -> list[Row]:
    decibels = [channel["psnr"] for channel in found["channels"]]
    rows = []
    if len(decibels) > 1:
        worst = decibels.index(min(decibels))
        scale = f"channel {worst} of 0 to {len(decibels) - 1}"
        rows.append(Row("PSNR, worst channel", f"{decibels[worst]:.2f} dB", scale, found["protocol"]))
    if found["clipped"]:
        rows.append(Row("reconstructed values clipped", f"{found['clipped']:.2%}", "they were out of range"))
    return rows


def _distances(distances: dict[str, Any]) -> list[Row]:
    rfd, rkid = distances["rfd"], distances["rkid"]
    return [
        Row(rfd["name"], f"{rfd['value']:.4g}", f"{rfd['n']} images", rfd["protocol"]),
        Row(f"{rfd['name']} of unpaired halves", f"{rfd['halves']:.4g}", f"real images {rfd['real']:.4g}"),
        Row(
            rkid["name"],
            f"{rkid['value']:.5f} ± {rkid['standard_error']:.5f}",
            f"real images {rkid['real']:.5f} ± {rkid['real_standard_error']:.5f}",
            rkid["protocol"],
        ),
    ]


def _latents(latents: dict[str, Any]) -> list[Row]:
    channels, correlation = len(latents["channels"]), latents["correlation"]
    dead = sum(channel["dead"] for channel in latents["channels"])
    rows = [Row("dead channels", str(dead), f"of {channels}", latents["protocol"])]
    if correlation["largest"] is not None:
        scale = f"mean {correlation['mean']:.3f}"
        rows.append(Row("correlation between channels, largest", f"{correlation['largest']:.3f}", scale))
    if kl := latents.get("kl"):
        scale = f"{kl['per_image']:.1f} nats an image"
        rows.append(Row("KL of the posterior, per number", f"{kl['per_number']:.3f} nats", scale))
    return rows


def _diffusability(found: dict[str, Any]) -> list[Row]:
    rows, high = [], found["high_frequencies"]
    if None not in (high["value"], high["images"], high["white_noise"]):
        scale = f"images {high['images']:.3f}, white noise {high['white_noise']:.3f}"
        rows.append(Row("energy in high frequencies", f"{high['value']:.3f}", scale, high["protocol"]))
    if half := found.get("scale_equivariance"):
        scale = f"encoded at that size {half['encoded']:.2f} dB"
        rows.append(Row("PSNR at half the size", f"{half['value']:.2f} dB", scale, half["protocol"]))
    if low := found.get("low_pass"):
        scale = f"images {low['images']:.3f}, all latents {low['all_latents']:.3f}"
        rows.append(Row("variance explained by low frequencies", f"{low['value']:.3f}", scale, low["protocol"]))
    return rows


def _facts(metrics: dict[str, Any], rows: list[Row]) -> list[Fact]:
    values = {row.measure: row for row in rows}
    names = ["PSNR", "PSNR, worst 5 %", "SSIM", metrics.get("perceptual", {}).get("name")]
    names += [found["rfd"]["name"] for found in metrics.get("distances", {}).values()]
    return [Fact(values[name].value, name, values[name].scale) for name in names if name in values]


def _channels(found: dict[str, Any]) -> Table:
    names = [name for name in found["channels"][0] if name != "dead"]
    shown = found["channels"][:MOST_CHANNELS]
    rows = [(i, *(row[name] for name in names), "dead" if row.get("dead") else "") for i, row in enumerate(shown)]
    rest = len(found["channels"]) - len(shown)
    return Table(("channel", *names, ""), rows, f"{rest} more in metrics.json." if rest else "")


def _pairs(pairs: list[Pair]) -> Any:
    return labelled_pairs([(p.original, p.reconstruction) for p in pairs], [f"{p.psnr:.1f} dB" for p in pairs], COLUMNS)


def _picture(caption: str, pixels: Any) -> Picture:
    return Picture(caption, pixels, min(960, pixels.shape[1]))
