"""``calotype interpolate``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")] = (),
    /,
    *,
    seeds: str = "0-1",
    frames: int = 8,
    caption: str | None = None,
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None,
    steps: int = 20,
    guidance: float | None = None,
    size: str | None = None,
    grid: Path | None = None,
    out: Path | None = None,
    columns: int = 8,
    device: str = "auto",
) -> None:
    """Draw the way from one seed to the next, or from one picture to the next by way of their noise.

    calotype interpolate runs/mine --seeds 3,7,12 --frames 24 --caption "a red apple" --out frames
    calotype interpolate runs/mine first.png second.png --frames 9

    Args:
        model: What `calotype run` or `calotype train` made, or emoji: the model that comes with the package.
        images: Pictures to go between instead of seeds; the centre of each is taken.
        seeds: Seeds to go through, as a list of numbers and ranges: 3,7,20-23.
        frames: Images in all, at equal distances, the first and the last included.
        caption: What to draw, for models that take captions.
        label: The class to draw, for models that take classes.
        steps: Steps of the solver, DPM-Solver++(2M).
        guidance: Scale of classifier-free guidance: 1 is off (default 3, between pictures 1).
        size: Pixels of the images, 64 or (width x height) 96x64; by default as in training.
        grid: Write all images into this one PNG (default: samples.png if there is no --out).
        out: Write each image into this folder, as 0.png, 1.png ...
        columns: Images per row of the grid.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    import torch

    from calotype.artifact import read_artifact
    from calotype.cli.drawing import check_options, fields_for, open_picture, write_images
    from calotype.cli.values import model_folder, parse_seeds
    from calotype.diffusion import CFG
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.tasks.interpolate import interpolate
    from calotype.tasks.invert import invert
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError
    from calotype.utils.size import parse_size

    numbers = parse_seeds(seeds)
    check_options(steps=steps, columns=columns, guidance=guidance, grid=grid)
    wanted = None if size is None else parse_size(size)
    if len(images or numbers) < 2 or frames < 2:
        raise UserError("a way has at least two ends, --seeds or IMAGES, and two --frames")
    ldm = load_latent_diffusion(read_artifact(model_folder(model), kind=LatentDiffusion.kind))
    ldm.to(start_session(device).device)
    if images:
        pictures = torch.cat([open_picture(ldm, path, wanted) for path in images])
        ends, scale = invert(ldm, pictures, steps=steps, **fields_for(ldm, len(images), caption, label)), 1.0
    else:
        ends, scale = ldm.noise(numbers, wanted), None
    scale = scale if guidance is None else guidance
    drawn = ldm.sample(
        noise=interpolate(ends, frames),
        steps=steps,
        guidance=None if scale is None else CFG(scale),
        progress=True,
        **fields_for(ldm, frames, caption, label),
    )
    write_images(ldm, drawn, names=range(frames), out=out, grid=grid, columns=columns)
