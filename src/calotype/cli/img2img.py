"""``calotype img2img``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    image: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")],
    /,
    *,
    strength: float | None = None,
    known: Path | None = None,
    caption: str | None = None,
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None,
    seeds: str = "0-7",
    steps: int = 20,
    guidance: float | None = None,
    size: str | None = None,
    grid: Path | None = None,
    out: Path | None = None,
    columns: int = 8,
    device: str = "auto",
) -> None:
    """Draw a picture anew, once per seed: less strength leaves more of it. With a mask, fill in what it leaves open.

    calotype img2img runs/mine sketch.png --strength 0.6 --caption "a red apple"
    calotype img2img runs/mine photo.png --known mask.png --seeds 0-3

    Args:
        model: What `calotype run` or `calotype train` made, or emoji: the model that comes with the package.
        image: The picture; its centre is taken, as much as has the shape of the size.
        strength: Share of the steps that are taken, above 0 to 1: 1 keeps nothing (default 0.6, with --known 1).
        known: A mask of the same shape: white stays exactly as it is, black is drawn.
        caption: What to draw, for models that take captions.
        label: The class to draw, for models that take classes.
        seeds: Seeds as a list of numbers and ranges: 0-15, 3,7,20-23.
        steps: Steps of the solver, DPM-Solver++(2M), for strength 1.
        guidance: Scale of classifier-free guidance: 1 is off, larger follows the caption more closely (default 3).
        size: Pixels of the result, 64 or (width x height) 96x64; by default as in training.
        grid: Write all results into this one PNG (default: samples.png if there is no --out).
        out: Write each result into this folder, as SEED.png.
        columns: Images per row of the grid.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    from calotype.artifact import read_artifact
    from calotype.cli.drawing import check_options, fields_for, open_mask, open_picture, write_images
    from calotype.cli.values import model_folder, parse_seeds
    from calotype.diffusion import CFG
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.tasks.img2img import img2img
    from calotype.training.session import start_session
    from calotype.utils.size import parse_size

    numbers = parse_seeds(seeds)
    check_options(steps=steps, columns=columns, guidance=guidance, grid=grid)
    wanted = None if size is None else parse_size(size)
    ldm = load_latent_diffusion(read_artifact(model_folder(model), kind=LatentDiffusion.kind))
    picture = open_picture(ldm, image, wanted)
    mask = None if known is None else open_mask(ldm, known, wanted).expand(len(numbers), -1, -1, -1)
    images = img2img(
        ldm.to(start_session(device).device),
        picture.expand(len(numbers), -1, -1, -1),
        strength=strength if strength is not None else 0.6 if mask is None else 1.0,
        known=mask,
        seeds=numbers,
        steps=steps,
        guidance=None if guidance is None else CFG(guidance),
        progress=True,
        **fields_for(ldm, len(numbers), caption, label),
    )
    write_images(ldm, images, names=numbers, out=out, grid=grid, columns=columns)
