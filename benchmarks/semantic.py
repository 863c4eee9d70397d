"""Is every pixel of what the label map says? Also on maps larger than those of training.

    .venv/bin/python benchmarks/semantic.py --seconds 120 --runs runs/scenes

A model is trained on the label maps of composed scenes, and draws the maps of scenes that it did not see. A segmenter
trained on real scenes labels the samples; its labels are compared with the maps, pixel by pixel. It judges real scenes
as well, the autoencoder's reconstructions, and the samples against the maps of other images. Maps three times as wide
are drawn in one piece and in overlapping windows. Writes semantic.json, .png and .md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scene_bench import (
    GUIDANCE,
    HELD_OUT,
    SIZE,
    TRAIN,
    SceneBench,
    arguments,
    mean_and_error,
    write_page,
    write_results,
)
from scene_judges import Segmenter, as_images, as_labels
from torch import Tensor

from calotype.data.scenes import LABELS, Scene
from calotype.diffusion import CFG
from calotype.presets.tasks import Task
from calotype.tasks.windows import in_windows
from calotype.utils.box_picture import enlarged
from calotype.utils.images import save_png
from calotype.utils.label_maps import coloured

SHOWN, WIDE = 8, (SIZE, 3 * SIZE)
SHOWS = "Maps, two samples of each, and real scenes; maps three times as wide, drawn in one piece and in windows."


def main() -> None:
    options = arguments(__doc__, "semantic")
    bench = SceneBench(options)
    unseen, wide = bench.scenes(HELD_OUT, options.drawn), bench.scenes(HELD_OUT, max(8, options.drawn // 8), WIDE)
    maps, wide_maps = as_labels(unseen), as_labels(wide)
    segmenter = Segmenter(bench.scenes(TRAIN, options.scenes), options.seconds / 4, bench.device)
    real = as_images(unseen)

    def judged(images: Tensor, asked: Tensor) -> dict[str, Any]:
        found = segmenter(images)
        return {"pixels": mean_and_error((found == asked).float().mean((1, 2)).tolist()), "iou": mean_iou(found, asked)}

    others = maps.roll(1, dims=0)
    common = torch.bincount(maps.flatten(), minlength=len(LABELS)).max() / maps.numel()
    rows = {
        "real": judged(real, maps),
        "reconstructed": judged(bench.first_stage.reconstruct(real), maps),
        "real, maps of others": judged(real, others),
        "the most frequent label": {"pixels": {"mean": round(float(common), 4)}},
        "real, wide": judged(as_images(wide), wide_maps),
    }
    shown: list[Tensor] = []
    for seed in range(options.seeds):
        model = bench.model("semantic", Task(name="semantic"), seed)
        rest: dict[str, Any] = {"guidance": CFG(GUIDANCE), "batch_size": 128, "progress": True}
        images = model.sample(seeds=range(len(maps)), segmentation=list(maps), **rest)
        rows[f"drawn, seed {seed}"] = judged(images, maps)
        across = [
            each.sample(seeds=range(len(wide)), size=WIDE, segmentation=list(wide_maps), **rest)
            for each in (model, in_windows(model, WIDE))
        ]
        for name, pieces in zip(("in one piece", "in windows"), across, strict=True):
            rows[f"drawn, wide {name}, seed {seed}"] = judged(pieces, wide_maps)
        if not seed:
            rows["drawn, maps of others"] = judged(images, others)
            again = model.sample(seeds=range(1000, 1000 + SHOWN), segmentation=list(maps[:SHOWN]), **rest)
            shown = [images[:SHOWN], again, *across]
    about = bench.about(
        what="share of pixels that a segmenter finds to be what the map says, mean over images and its standard error; "
        "intersection over union, mean over the labels",
        judge=f"trained on real scenes for {options.seconds / 4:g} s ({segmenter.steps} steps); `real` is its own best",
    )
    write_results(options.out, "semantic", about, rows)
    table = ["| images | pixels (%) | IoU (%) |", *(_row(*row) for row in rows.items())]
    write_page(options.out, "semantic", "Label maps", about, SHOWS, table)
    save_png(options.out / "semantic.png", picture(unseen, wide, shown))
    print((options.out / "semantic.md").read_text())


def mean_iou(found: Tensor, asked: Tensor) -> float:
    """Return the intersection over union of each label over all images, averaged over the labels that there are."""
    ratios = []
    for label in range(len(LABELS)):
        ours, theirs = found == label, asked == label
        if theirs.any():
            ratios.append(float((ours & theirs).sum() / (ours | theirs).sum()))
    return round(sum(ratios) / len(ratios), 4)


def picture(scenes: Sequence[Scene], wide: Sequence[Scene], shown: Sequence[Tensor]) -> np.ndarray:
    """Maps, two samples for each, the real scenes; below the wide maps, in one piece and in windows."""
    images, again, whole, windows = (((each + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy() for each in shown)
    few = len(images) // 3 + 1
    rows = [
        [coloured(scene.labels) for scene in scenes[:SHOWN]],
        [*images],
        [*again],
        [scene.pixels for scene in scenes[:SHOWN]],
        [coloured(scene.labels) for scene in wide[:few]],
        [*whole[:few]],
        [*windows[:few]],
    ]
    strips = [np.concatenate([enlarged(tile) for tile in row], axis=1) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    return np.concatenate([np.pad(s, ((0, 4), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips])


def _row(name: str, found: dict[str, Any]) -> str:
    pixels = found["pixels"]
    share = f"{100 * pixels['mean']:.1f}" + (
        f" ± {100 * pixels['standard_error']:.1f}" if "standard_error" in pixels else ""
    )
    return f"| {name} | {share} | {100 * found['iou']:.1f} |" if "iou" in found else f"| {name} | {share} | |"


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    main()
