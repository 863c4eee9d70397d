"""How soon an autoencoder is good on photographs that it has never seen: from the package's weights, and from scratch.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/warm_start.py

The photographs are those in the scikit-image package, cut into a grid of squares that share no pixel; a tenth of the
squares is held out, as `calotype train` does. Each curve is one training by the preset of a few thousand images, as
`calotype train` makes it: with its whole schedule, and with the discriminator for the last quarter. PSNR is that of the
averaged weights on the held-out squares; seconds are of CPU time of the process, from before the first step on, with
all that it spends on validating. Stop it and run it again: what is finished stays. Writes docs/results/warm_start.json
and .png.
"""

import argparse
import logging
import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import torch
from PIL import Image
from torch import nn

from calotype.artifact import read_artifact, versions
from calotype.chain.judge import judge_autoencoder
from calotype.chain.source import Source, open_source
from calotype.chain.stages import loader
from calotype.pipeline import load_autoencoder
from calotype.presets import AUTOENCODERS
from calotype.presets.autoencoders import WARM
from calotype.presets.warm_start import warm_start
from calotype.training.autoencoder_recipe import AutoencoderRecipe
from calotype.training.logs import read_metrics
from calotype.training.session import Session
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils.files import read_json, write_json
from calotype.utils.images import read_image, save_png

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "ihc", "motorcycle_left", "retina", "rocket")
SIZE, SHORT_SIDE = 64, 320
PRESETS = ("kl-f4-small", "kl-f8-small")
IMAGES, EVERY, COLUMNS = 2_560, 128, 8
STARTS = {"warm": "#2563a8", "scratch": "#d1622b"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/warm_start"))
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--cut-only", action="store_true", help="write the squares to RUNS/photographs and stop")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    folder = arguments.runs / "photographs"
    cut(folder)
    if arguments.cut_only:
        return
    source = open_source(str(folder))
    for preset in arguments.presets:
        for start in STARTS:
            run(preset, start, source, arguments.runs / preset / start)
    results = collect(arguments.presets, source, arguments.runs)
    write_json(arguments.results / "warm_start.json", results)
    draw(results, source, arguments.runs, arguments.results / "warm_start.png")


def cut(folder: Path) -> None:
    """Write the squares of every photograph, scaled to a short side of ``SHORT_SIDE``."""
    data = Path(skimage.__file__).parent / "data"
    for name in PHOTOGRAPHS:
        image = Image.fromarray(read_image(next(data.glob(f"{name}.*"))))
        scale = SHORT_SIDE / min(image.size)
        width, height = (round(edge * scale) for edge in image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
        for top in range(0, height - SIZE + 1, SIZE):
            for left in range(0, width - SIZE + 1, SIZE):
                save_png(folder / f"{name}_{top:03}_{left:03}.png", pixels[top : top + SIZE, left : left + SIZE])


class Timed(AutoencoderRecipe):
    """Notes the CPU seconds with every validation."""

    def start(self, session: Session, batch_size: int) -> None:
        super().start(session, batch_size)
        self.begun = time.process_time()

    def validate(self, averaged: Mapping[str, nn.Module]) -> dict[str, float]:
        return {**super().validate(averaged), "seconds": time.process_time() - self.begun}


def run(name: str, start: str, source: Source, out: Path) -> None:
    """Train, unless it is done, and leave the curve in the run's folder."""
    if (out / "curve.json").exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    preset, train, held_out = AUTOENCODERS[name], loader(source.train, SIZE, 0), loader(source.held_out, SIZE, 0)
    config = preset.recipe(source.train.pixel_format, SIZE)
    initial = warm_start(preset, 3) if start == "warm" else None
    torch.manual_seed(0)
    settings = TrainerConfig(
        out=str(out), samples=IMAGES, batch_size=preset.batch_size, validate_every=EVERY, preview_every=IMAGES
    )
    Trainer(settings).fit(Timed(config, train, held_out, initial), train)
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "validation/psnr" in line]
    names = {"samples": "images", "validation/seconds": "seconds", "validation/psnr": "psnr", "validation/ssim": "ssim"}
    write_json(out / "curve.json", [{short: line[long] for long, short in names.items()} for line in lines])


def collect(presets: list[str], source: Source, runs: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for preset in presets:
        curves = {start: read_json(runs / preset / start / "curve.json") for start in STARTS}
        shipped = judge_autoencoder(load_autoencoder(read_artifact(WARM / preset)), source.held_out).metrics
        first = {"images": 0, "seconds": 0.0, "psnr": shipped["psnr"], "ssim": shipped["ssim"]}
        results[preset] = {**curves, "warm": [first, *curves["warm"]]}
    data = {"photographs": PHOTOGRAPHS, "train": len(source.train), "held_out": len(source.held_out), "size": SIZE}
    machine = {**versions(), "cpu": cpu(), "threads": torch.get_num_threads()}
    return {"protocol": " ".join((__doc__ or "").split()), "data": data, "machine": machine, "results": results}


def cpu() -> str:
    """Return the processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def draw(results: dict[str, Any], source: Source, runs: Path, path: Path) -> None:
    """Draw PSNR over seconds, and held-out squares as either training has them in the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(results["results"]), figsize=(6 * len(results["results"]), 7.5), height_ratios=(3, 2), squeeze=False
    )
    originals = loader(source.held_out, SIZE, 0).at(range(COLUMNS)).images
    for column, preset in enumerate(results["results"]):
        above, below = axes[:, column]
        rows = [originals]
        for start, colour in STARTS.items():
            curve = results["results"][preset][start]
            above.plot(
                [point["seconds"] for point in curve], [point["psnr"] for point in curve], color=colour, label=start
            )
            rows.append(load_autoencoder(read_artifact(runs / preset / start)).reconstruct(originals))
        above.set(xlabel="CPU seconds of training, one thread", ylabel="PSNR on held-out squares, dB", title=preset)
        above.legend()
        above.grid(alpha=0.3)
        picture = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1).permute(1, 2, 0)
        below.imshow((picture.clamp(-1, 1).numpy() + 1) / 2)
        below.set(xticks=[], xlabel=f"held-out squares, after {IMAGES} images")
        below.set_yticks([SIZE * (row + 0.5) for row in range(len(rows))], ["original", *STARTS])
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
