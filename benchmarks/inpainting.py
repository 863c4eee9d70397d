"""How well holes in photographs are filled in, by the kind of hole, beside what needs no training.

    .venv/bin/python -m pip install opencv-python-headless==5.0.0.93      (the peer; nothing else needs it)
    .venv/bin/python benchmarks/inpainting.py --tiles TILES --seconds 600

One model is trained, on latents of an autoencoder that started from the package's weights; strokes, boxes and margins
(drawing on beyond the borders) are cut out of held-out tiles and filled in by it, by OpenCV's Telea (2004) and by the
mean of what is known. PSNR is that of the holes alone and rewards the mean of all that could be there; the perceptual
distance and KID-EffLite0 (of the whole tiles against the originals) ask how it looks. Stop it and run it again: what is
finished stays. Writes inpainting.json, .png and .md.
"""

from typing import Any

import cv2
import numpy as np
import torch
from task_bench import Bench, Judge, draw, parse, setting, table
from torch import Tensor

from calotype.data.masks import RandomMasks
from calotype.diffusion import composite
from calotype.pipeline import LatentDiffusion
from calotype.presets.tasks import Task
from calotype.tasks.inpaint import inpaint
from calotype.utils.files import write_json
from calotype.utils.seeds import generator

KINDS = ("strokes", "boxes", "margins")
NONE = {"strokes": 0.0, "boxes": 0.0, "margins": 0.0, "nothing": 0.0}
SHOWN, RADIUS = 8, 3


def main() -> None:
    arguments = parse(__doc__, "inpainting")
    bench = Bench(arguments.tiles, arguments.runs, arguments.seconds)
    model = bench.train("inpaint", Task(name="inpaint"))
    originals = bench.originals(arguments.images)
    judge = Judge(bench, originals)
    results: dict[str, Any] = {}
    pictures: list[tuple[str, Tensor]] = []
    shown = slice(None, None, max(1, len(originals) // SHOWN))
    for kind in KINDS:
        known = masks(kind, originals)
        filled = methods(model, originals, known, arguments.steps)
        results[kind] = {
            name: {"PSNR of the hole": hole_psnr(images, originals, known), **judged(judge, images)}
            for name, images in filled.items()
        }
        results[kind]["share of the hole"] = round(float(1 - known.mean()), 3)
        rows = {"known": torch.where(known == 1, originals, torch.ones(())), **filled}
        pictures += [(f"{name}\n({kind})", images[shown][:SHOWN]) for name, images in rows.items()]
    found = {**bench.protocol(), "images": len(originals), "steps": arguments.steps, "opencv": cv2.__version__}
    write_json(
        arguments.out / "inpainting.json", {"what": " ".join((__doc__ or "").split()), **found, "results": results}
    )
    draw([("original", originals[shown][:SHOWN]), *pictures], arguments.out / "inpainting.png")
    (arguments.out / "inpainting.md").write_text(page(results, found), encoding="utf-8")
    print(f"wrote {arguments.out / 'inpainting.json'}, .png and .md")


def masks(kind: str, originals: Tensor) -> Tensor:
    """Return a mask of this kind for each image, 1 where it is known."""
    drawn = RandomMasks(**{**NONE, kind: 1.0})
    size = originals.shape[2:]
    return torch.stack([drawn.draw(*size, generator("benchmark", kind, row)) for row in range(len(originals))])


def methods(model: LatentDiffusion, originals: Tensor, known: Tensor, steps: int) -> dict[str, Tensor]:
    """Return the originals with their holes filled in by each method, as 8 bits hold them."""
    mean = (originals * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    ours = inpaint(model, originals, known, seeds=range(len(originals)), steps=steps, batch_size=128)
    filled = {
        "mean": composite(originals, mean.expand_as(originals), known),
        "Telea": torch.stack([telea(*pair) for pair in zip(originals, known, strict=True)]),
        "ours": ours,
    }
    return {name: ((images + 1) * 127.5).round() / 127.5 - 1 for name, images in filled.items()}


def telea(image: Tensor, known: Tensor) -> Tensor:
    pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    hole = (1 - known[0]).byte().numpy()
    filled = cv2.inpaint(np.ascontiguousarray(pixels), hole, RADIUS, cv2.INPAINT_TELEA)
    return torch.from_numpy(filled).permute(2, 0, 1) / 127.5 - 1


def hole_psnr(images: Tensor, originals: Tensor, known: Tensor) -> float:
    """Return the mean over images of the peak signal-to-noise ratio over the hole's pixels."""
    hole = (1 - known).expand_as(images)
    error = ((images - originals).square() * hole).sum((1, 2, 3)) / hole.sum((1, 2, 3))
    return round(float((10 * torch.log10(4 / error.clamp(min=1e-9))).mean()), 3)


def judged(judge: Judge, images: Tensor) -> dict[str, float]:
    return {name: value for name, value in judge(images).items() if name not in ("psnr", "ssim")}


def page(results: dict[str, Any], found: dict[str, Any]) -> str:
    lines = [
        "# Inpainting",
        "",
        f"{setting(found)} Telea is OpenCV {found['opencv']}'s, with a radius of {RADIUS}. "
        "By `benchmarks/inpainting.py`.",
        "",
        "![originals, what is known, the mean, Telea's and ours](inpainting.png)",
    ]
    for kind in KINDS:
        rows = {name: row for name, row in results[kind].items() if isinstance(row, dict)}
        share = f"{results[kind]['share of the hole']:.0%} of the pixels"
        lines += ["", f"## {kind.capitalize()}: {share}", "", table(rows, "method")]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
