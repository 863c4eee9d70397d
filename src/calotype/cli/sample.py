"""``calotype sample``."""

import math
from pathlib import Path
from typing import Annotated, Any

import tyro


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    caption: str | None = None,
    label: str | None = None,
    seeds: str = "0-15",
    steps: int = 20,
    guidance: float | None = None,
    size: int | None = None,
    grid: Path | None = None,
    out: Path | None = None,
    columns: int = 8,
    device: str = "auto",
    raw: bool = False,
) -> None:
    """Draw images. Image i depends on seed i (and the caption) alone, whatever else is drawn with it.

    calotype sample runs/mine --caption "red apple, 3d style" --seeds 0-15 --grid apples.png

    Args:
        model: What `calotype run` or `calotype train` made, or emoji: the model that comes with the package.
        caption: What to draw, for models that take captions.
        label: The class to draw, for models that take classes.
        seeds: Seeds as a list of numbers and ranges: 0-15, 3,7,20-23.
        steps: Steps of the solver, DPM-Solver++(2M).
        guidance: Scale of classifier-free guidance: 1 is off, larger follows the caption more closely (default 3).
        size: Pixels of the images; by default as in training.
        grid: Write all images into this one PNG (default: samples.png if there is no --out).
        out: Write each image as SEED.png into this folder.
        columns: Images per row of the grid.
        device: Where to compute: auto, cpu, cuda, mps.
        raw: Take the last weights instead of their moving average.
    """
    from calotype.artifact import read_artifact
    from calotype.cli.values import check_positive, model_folder, parse_seeds
    from calotype.diffusion import CFG
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError
    from calotype.utils.images import image_grid, save_png

    numbers = parse_seeds(seeds)
    if not 1 <= steps <= 1000:
        raise UserError(f"--steps must be between 1 and 1000, not {steps}")
    check_positive(columns=columns)
    if grid is not None and grid.suffix.lower() != ".png":
        raise UserError(f"--grid writes a PNG: give a name that ends in .png, not {grid.name!r}")
    if guidance is not None and not math.isfinite(guidance):
        raise UserError(f"--guidance must be a number, not {guidance}")
    artifact = read_artifact(model_folder(model), kind=LatentDiffusion.kind)
    ldm = load_latent_diffusion(artifact, weights="raw" if raw else "ema").to(start_session(device).device)
    fields: dict[str, Any] = {
        name: [value] * len(numbers) for name, value in (("caption", caption), ("class", label)) if value is not None
    }
    if unknown := ldm.unknown_words(caption or ""):
        print(f"words this model has never seen, left out: {', '.join(unknown)}")
    images = ldm.sample(
        seeds=numbers,
        steps=steps,
        guidance=None if guidance is None else CFG(guidance),
        size=size,
        progress=True,
        **fields,
    )
    if out is not None:
        for seed, pixels in zip(numbers, ldm.pixel_format.to_file(images)[0], strict=True):
            save_png(out / f"{seed}.png", pixels)
        print(f"images: {out}")
    if grid is not None or out is None:
        path = grid or Path("samples.png")
        save_png(path, image_grid(images, columns=min(columns, len(images))))
        print(f"grid: {path}")
