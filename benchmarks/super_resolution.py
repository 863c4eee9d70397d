"""How well small photographs are enlarged four times, beside interpolation: of clean ones and of spoilt ones.

    .venv/bin/python benchmarks/super_resolution.py --tiles TILES --seconds 600

For each degradation a model is trained for the same time, on latents of one autoencoder that started from the package's
weights. Held-out tiles are made four times smaller by the same degradation and enlarged by each method. PSNR and SSIM
reward the mean of all that could be there, which is blurred; the perceptual distance and KID-EffLite0 (of the enlarged
tiles against the originals) ask how it looks. "autoencoder" encodes and decodes the originals themselves: no model on
its latents can be nearer. Stop it and run it again: what is finished stays. Writes super_resolution.json, .png and .md.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from task_bench import Bench, Judge, draw, parse, setting, table
from torch import Tensor

from calotype.data.degradations import DEGRADATIONS
from calotype.pipeline import LatentDiffusion
from calotype.presets.tasks import Task
from calotype.tasks.upscale import upscale
from calotype.utils.files import write_json
from calotype.utils.seeds import generator

FACTOR, SHOWN = 4, 8
KINDS = ("bicubic", "bsrgan-light")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "Lanczos": Image.Resampling.LANCZOS,
}


def main() -> None:
    arguments = parse(__doc__, "super_resolution")
    bench = Bench(arguments.tiles, arguments.runs, arguments.seconds)
    originals = bench.originals(arguments.images)
    judge = Judge(bench, originals)
    results: dict[str, Any] = {}
    pictures: list[tuple[str, Tensor]] = []
    for kind in KINDS:
        model = bench.train(f"upscale-{kind}", Task(name="upscale", factor=FACTOR, degradation=kind))
        enlarged = methods(model, kind, originals, arguments.steps)
        results[kind] = {name: judge(images) for name, images in enlarged.items()}
        step = max(1, len(originals) // SHOWN)
        pictures += [(f"{name}\n({kind})", images[::step][:SHOWN]) for name, images in enlarged.items()]
    results["autoencoder"] = judge(model.first_stage.reconstruct(originals))
    found = {**bench.protocol(), "images": len(originals), "steps": arguments.steps, "factor": FACTOR}
    write_json(
        arguments.out / "super_resolution.json",
        {"what": " ".join((__doc__ or "").split()), **found, "results": results},
    )
    shown = originals[:: max(1, len(originals) // SHOWN)][:SHOWN]
    draw([("original", shown), *pictures], arguments.out / "super_resolution.png")
    (arguments.out / "super_resolution.md").write_text(page(results, found), encoding="utf-8")
    print(f"wrote {arguments.out / 'super_resolution.json'}, .png and .md")


def methods(model: LatentDiffusion, kind: str, originals: Tensor, steps: int) -> dict[str, Tensor]:
    """Return the originals, made small and enlarged again by each method."""
    degradation = DEGRADATIONS[kind]
    small = torch.stack(
        [degradation.degrade(image, FACTOR, generator("benchmark", kind, row)) for row, image in enumerate(originals)]
    )
    enlarged = {name: interpolated(small, method) for name, method in INTERPOLATIONS.items()}
    return {**enlarged, "ours": upscale(model, small, seeds=range(len(small)), steps=steps, batch_size=128)}


def interpolated(small: Tensor, method: Image.Resampling) -> Tensor:
    """Enlarge by Pillow, in floating point."""

    def enlarge(channel: Tensor) -> Tensor:
        height, width = channel.shape
        image = Image.fromarray(channel.numpy()).resize((FACTOR * width, FACTOR * height), method)
        return torch.from_numpy(np.array(image))

    return torch.stack([torch.stack([enlarge(channel) for channel in image]) for image in small]).clamp(-1, 1)


def page(results: dict[str, Any], found: dict[str, Any]) -> str:
    lines = [
        "# Super-resolution",
        "",
        f"{setting(found)} They were made {FACTOR} times smaller and enlarged again. The autoencoder alone, which "
        f"bounds what is drawn in its latents, reaches {results['autoencoder']['psnr']:.2f} dB and "
        f"{results['autoencoder']['ssim']:.3f}. By `benchmarks/super_resolution.py`.",
        "",
        "![originals, small images, interpolations and ours](super_resolution.png)",
    ]
    for kind in KINDS:
        lines += ["", f"## Made small by {kind}", "", table(results[kind], "method")]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
