"""``calotype variations``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    image: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")],
    /,
    *,
    seeds: str = "0-6",
    steps: int = 20,
    guidance: float | None = None,
    grid: Path | None = None,
    out: Path | None = None,
    columns: int = 8,
    device: str = "auto",
) -> None:
    """Draw images that are like a given one, once per seed, with a model that was trained to (--task variations).

    calotype variations runs/mine photo.png --seeds 0-15 --grid variations.png

    Args:
        model: What `calotype run` or `calotype train` made with --task variations.
        image: The picture; its centre square is seen, at the size of the training images. It comes first in the grid.
        seeds: Seeds as a list of numbers and ranges: 0-15, 3,7,20-23.
        steps: Steps of the solver, DPM-Solver++(2M).
        guidance: Scale of classifier-free guidance: 1 is off, larger stays nearer to the picture (default 3).
        grid: Write the picture and all results into this one PNG (default: samples.png if there is no --out).
        out: Write each result into this folder, as SEED.png.
        columns: Images per row of the grid.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    from calotype.artifact import read_artifact
    from calotype.cli.drawing import check_options, open_picture, write_images
    from calotype.cli.values import model_folder, parse_seeds
    from calotype.diffusion import CFG
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.tasks.variations import variations
    from calotype.training.session import start_session

    numbers = parse_seeds(seeds)
    check_options(steps=steps, columns=columns, guidance=guidance, grid=grid)
    ldm = load_latent_diffusion(read_artifact(model_folder(model), kind=LatentDiffusion.kind))
    picture = open_picture(ldm, image, None)
    images = variations(
        ldm.to(start_session(device).device),
        picture.expand(len(numbers), -1, -1, -1),
        seeds=numbers,
        steps=steps,
        guidance=None if guidance is None else CFG(guidance),
        progress=True,
    )
    write_images(ldm, images, names=numbers, out=out, grid=grid, columns=columns, before=picture)
