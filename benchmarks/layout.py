"""Do objects appear where they were asked for, and are they what was asked for? Discrete tokens against real boxes.

    .venv/bin/python benchmarks/layout.py --seconds 120 --runs runs/scenes

Two models are trained on the layouts of composed scenes for the same seconds: one reads them as tokens on a grid
through a transformer (the reference's way), one as a token per object with real coordinates (GLIGEN's). Both draw the
layouts of scenes that neither saw. A classifier trained on crops of real scenes says what is in each box; a segmenter
trained on the same scenes says where the class is, which is compared with the box asked for. Both judge real scenes as
well, the autoencoder's reconstructions, and the samples against the layouts of other images. Writes layout.json, .png
and .md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scene_bench import (
    GUIDANCE,
    HELD_OUT,
    TRAIN,
    SceneBench,
    arguments,
    mean_and_error,
    write_page,
    write_results,
)
from scene_judges import Classifier, Segmenter, as_images, as_labels, found_box, overlap
from torch import Tensor

from calotype.data.scenes import CONCEPTS, Scene
from calotype.diffusion import CFG
from calotype.presets.tasks import Task
from calotype.utils.box_picture import draw_boxes, enlarged
from calotype.utils.boxes import LayoutObject
from calotype.utils.images import save_png

SHOWN = 8
SHOWS = "Boxes asked for; samples with tokens, with the boxes over them and without; those with boxes; real scenes."
TASKS = {"tokens": Task(name="layout", box_tokens=True), "boxes": Task(name="layout")}
Layouts = Sequence[Sequence[LayoutObject]]


def main() -> None:
    options = arguments(__doc__, "layout")
    bench = SceneBench(options)
    seen, unseen = bench.scenes(TRAIN, options.scenes), bench.scenes(HELD_OUT, options.drawn)
    layouts = [scene.objects for scene in unseen]
    drawn: dict[str, list[Tensor]] = {name: [] for name in TASKS}
    for seed in range(options.seeds):
        for name, task in TASKS.items():
            model = bench.model(f"layout-{name}", task, seed)
            images = model.sample(
                seeds=range(len(layouts)), boxes=layouts, guidance=CFG(GUIDANCE), batch_size=128, progress=True
            )
            drawn[name].append(images)
    classifier = Classifier(seen, options.seconds / 4, bench.device)
    segmenter = Segmenter(seen, options.seconds / 4, bench.device)
    real = as_images(unseen)

    def judged(images: Tensor, asked: Layouts = layouts) -> dict[str, Any]:
        labels = segmenter(images)
        what = classifier.right(images, asked)
        where = [placed(one, layout) for one, layout in zip(labels, asked, strict=True)]
        return {"right": mean_and_error(what), "iou": mean_and_error(where)}

    others = [*layouts[1:], layouts[0]]
    rows = {"real": judged(real), "reconstructed": judged(bench.first_stage.reconstruct(real))}
    for name, sets in drawn.items():
        for seed, images in enumerate(sets):
            rows[f"{name}, seed {seed}"] = judged(images)
        rows[f"{name}, layouts of others"] = judged(sets[0], others)
    rows["real, layouts of others"] = judged(real, others)
    rows["chance"] = {"right": {"mean": round(1 / len(CONCEPTS), 4)}}
    pixels = (segmenter(real) == as_labels(unseen)).float().mean()
    about = bench.about(
        what="share of boxes that hold the class asked for (right), and the overlap of the box asked for with that of "
        "the class's pixels (iou); mean over images and its standard error",
        judges=f"trained for {options.seconds / 4:g} s each ({classifier.steps} and {segmenter.steps} steps); on real "
        f"held-out scenes right in {rows['real']['right']['mean']:.1%} of boxes and {float(pixels):.1%} of pixels",
    )
    write_results(options.out, "layout", about, rows)
    table = ["| images | right (%) | IoU (%) |", *(_row(*row) for row in rows.items())]
    write_page(options.out, "layout", "Layouts", about, SHOWS, table)
    save_png(options.out / "layout.png", picture(unseen, {name: sets[0] for name, sets in drawn.items()}))
    print((options.out / "layout.md").read_text())


def placed(labels: Tensor, layout: Sequence[LayoutObject]) -> float:
    """Return the mean overlap of the boxes asked for with those that are found."""
    return sum(overlap(item.box, found_box(labels, str(item.label))) for item in layout) / len(layout)


def picture(scenes: Sequence[Scene], drawn: dict[str, Tensor]) -> np.ndarray:
    """Boxes, what each model drew for them, and the real scene, in rows."""
    rows = [[draw_boxes(np.full_like(scene.pixels, 255), scene.objects) for scene in scenes[:SHOWN]]]
    for images in drawn.values():
        pixels = ((images[:SHOWN] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        rows.append([draw_boxes(one, scene.objects) for one, scene in zip(pixels, scenes, strict=False)])
        rows.append([enlarged(one) for one in pixels])
    rows.append([enlarged(scene.pixels) for scene in scenes[:SHOWN]])
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def _row(name: str, found: dict[str, Any]) -> str:
    cells = [
        f"{100 * value['mean']:.1f}" + (f" ± {100 * value['standard_error']:.1f}" if "standard_error" in value else "")
        for value in (found.get("right"), found.get("iou"))
        if value is not None
    ]
    return f"| {' | '.join([name, *cells, *[''] * (2 - len(cells))])} |"


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    main()
