"""What recipe_ladder.py found, as JSON, as a table and as a picture."""

import json
import math
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from recipe_ladder_rungs import CLIMB, RUNGS, SHAPE, TOP, folder_of

from calotype.artifact import versions

Found = dict[str, dict[int, dict[str, Any]]]


def write(found: Found, seconds: float, protocol: str, runs: Path, results: Path) -> None:
    """Write ``results`` with the endings .json, .md and .png."""
    told = summary(found, seconds, protocol)
    results.parent.mkdir(parents=True, exist_ok=True)
    results.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    write_page(told, results.with_suffix(".md"))
    draw(told, runs, results.with_suffix(".png"))


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % interval (t distribution)."""
    from scipy.stats import t

    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return statistics.mean(values), float(t.ppf(0.975, len(values) - 1) * spread) if len(values) > 1 else math.inf


def compared(found: Found, one: str, other: str) -> dict[str, Any]:
    """Return the difference between two rungs over the seeds that both have; below 0, the first is better."""
    seeds = sorted(found[one].keys() & found[other].keys())
    mean, half = interval([found[one][seed]["kid"] - found[other][seed]["kid"] for seed in seeds])
    return {"of": other, "difference": round(mean, 4), "half_width": round(half, 4), "seeds": len(seeds)}


def summary(found: Found, seconds: float, protocol: str) -> dict[str, Any]:
    rungs = {}
    for name, runs in found.items():
        rung = RUNGS[name]
        mean, half = interval([run["kid"] for run in runs.values()])
        rungs[name] = {
            "kid": round(mean, 4),
            "half_width": round(half, 4),
            "samples": next(iter(runs.values()))["samples"],
            "cpu_seconds": round(statistics.mean(run["cpu_seconds"] for run in runs.values()), 1),
            "compared": compared(found, name, rung.of) if rung.of in found else None,
            "runs": {str(seed): run for seed, run in runs.items()},
        }
    about = {
        "what": "KID-EffLite0 of samples against the training images; lower is better; 95 % intervals over seeds",
        "data": "emoji:faces, 386 training images, latents of the embedded autoencoder (16x16x4)",
        "network": f"that of `modern` with {SHAPE.channels} channels and 1 layer of text, {SHAPE.text_channels} wide",
        "top": f"`{TOP}` is `modern` but for batch 32 and a warm-up of 1,600 images (64 and 6,400): runs are short",
        "budget": f"{seconds:g} CPU seconds of one thread per run, as timed before; samples follow from it",
        "samples": protocol,
        "machine": f"{platform.processor() or platform.machine()}, one thread, bf16 where the CPU has it",
        **versions(),
    }
    return {"about": about, "total": compared(found, TOP, "ldm2022"), "rungs": rungs}


def write_page(told: dict[str, Any], path: Path) -> None:
    total, lines = told["total"], ["# The ladder from `ldm2022` to `modern`", ""]
    lines += [f"- {key}: {value}" for key, value in told["about"].items()]
    lines += [
        f"- {TOP} against ldm2022: {signed(total)} over {total['seeds']} seeds",
        "",
        "| change | KID-EffLite0 | of | difference (95 %) | verdict | samples |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in told["rungs"].items():
        step = row["compared"]
        told_step = f"{step['of']} | {signed(step)} | {verdict(step)}" if step else "| |"
        score = f"{row['kid']:.3f} ± {row['half_width']:.3f}"
        lines.append(f"| {name} | {score} | {told_step} | {row['samples']} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def signed(step: dict[str, Any]) -> str:
    return f"{step['difference']:+.3f} ± {step['half_width']:.3f}"


def verdict(step: dict[str, Any]) -> str:
    if abs(step["difference"]) <= step["half_width"]:
        return "cannot be told"
    return "better" if step["difference"] < 0 else "worse"


def draw(told: dict[str, Any], runs: Path, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(told["rungs"])
    figure = pyplot.figure(figsize=(11, 8.6), constrained_layout=True)
    grid = figure.add_gridspec(3, 2, height_ratios=(7, 1, 1))
    left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    colours = {"better": "#2563a8", "worse": "#d1622b", "cannot be told": "#8a8a8a"}
    for row, each in enumerate(told["rungs"].values()):
        left.errorbar(each["kid"], row, xerr=each["half_width"], fmt="o", color="#333333", markersize=4, capsize=2)
    left.set_yticks(range(len(names)), names)
    left.set_title("KID-EffLite0 in equal time (lower is better)", fontsize=10)
    for row, each in enumerate(told["rungs"].values()):
        if (step := each["compared"]) is not None:
            style = {"fmt": "o", "color": colours[verdict(step)], "markersize": 4, "capsize": 2}
            right.errorbar(step["difference"], row, xerr=step["half_width"], **style)
            right.annotate(f"of {step['of']}", (1.02, row), xycoords=("axes fraction", "data"), fontsize=7, va="center")
    last = max(row for row, name in enumerate(names) if name == "ldm2022" or name in [rung.name for rung in CLIMB])
    right.axvline(0, color="#333333", linewidth=0.8)
    right.set_yticks([])
    right.set_title("difference from what it changes, seed by seed (95 %)", fontsize=10)
    for axis in (left, right):
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.axhline(last + 0.5, color="#bbbbbb", linewidth=0.8, linestyle=(0, (2, 2)))
        axis.spines[["top", "right"]].set_visible(False)
    for row, name in ((1, "ldm2022"), (2, TOP)):
        axis = figure.add_subplot(grid[row, :])
        axis.imshow(np.asarray(Image.open(folder_of(runs, name) / "0" / "samples.png")))
        axis.set_title(f"{name}, seed 0", fontsize=9, loc="left")
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
