"""``calotype inpaint``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import numpy as np


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    image: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")],
    /,
    *,
    mask: Path | None = None,
    box: str | None = None,
    outpaint: str | None = None,
    caption: str | None = None,
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None,
    seeds: str = "0-3",
    steps: int = 20,
    guidance: float | None = None,
    size: str | None = None,
    out: Path = Path("inpainted"),
    device: str = "auto",
) -> None:
    """Fill in a part of a picture, once per seed, or draw on beyond its borders. All else stays to the last bit.

    calotype inpaint runs/mine photo.png --mask mask.png
    calotype inpaint runs/mine photo.png --box 120,80,64,64 --seeds 0-7
    calotype inpaint runs/mine photo.png --outpaint 0,0,128,0

    A model that was trained for it (`calotype run FOLDER --task inpaint`) sees the picture while it draws; with any
    other it works, too, but fits less well.

    Args:
        model: What `calotype train` or `calotype run` made, or emoji: the model that comes with the package.
        image: The picture, of any size; what is larger than the images of training is drawn in overlapping windows.
        mask: An image of the picture's size: white stays, black is drawn.
        box: What to draw: x,y,width,height in pixels of the picture, from its top left corner.
        outpaint: How much to draw beyond the borders: left,top,right,bottom in pixels.
        caption: What to draw, for models that take captions.
        label: The class to draw, for models that take classes.
        seeds: Seeds as a list of numbers and ranges: 0-15, 3,7,20-23.
        steps: Steps of the solver, DPM-Solver++(2M).
        guidance: Scale of classifier-free guidance: 1 is off, larger follows the caption more closely (default 3).
        size: Crop and resize the picture to this first: 64 or (width x height) 96x64. Its own size by default.
        out: Folder for the results, as SEED.png (or .tif), and picture.png: the picture, what is known of it, results.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    import numpy as np
    import torch

    from calotype.artifact import read_artifact
    from calotype.cli.drawing import check_options, fields_for, read_picture, write_picture
    from calotype.cli.values import model_folder, parse_seeds
    from calotype.data.transforms import Transform
    from calotype.diffusion import CFG
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.tasks.inpaint import inpaint
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError
    from calotype.utils.images import save_image
    from calotype.utils.size import parse_size

    numbers = parse_seeds(seeds)
    check_options(steps=steps, columns=1, guidance=guidance, grid=None)
    if sum(given is not None for given in (mask, box, outpaint)) != 1:
        raise UserError("say what is to be drawn with one of --mask, --box and --outpaint")
    wanted = None if size is None else Transform(size=parse_size(size))
    ldm = load_latent_diffusion(read_artifact(model_folder(model), kind=LatentDiffusion.kind))
    pixels = read_picture(ldm, image)
    known = _known(image, pixels, mask, box)
    if wanted is not None:
        pixels, known = wanted.apply(pixels), wanted.apply(known)
    pixels, known = _grown(pixels, known > 0.5, outpaint)
    if known.all():
        raise UserError("nothing is left to draw: all of the picture is known")
    picture, where = ldm.pixel_format.to_model(pixels), torch.from_numpy(known).float()
    original, seen = (values.permute(2, 0, 1)[None] for values in (picture, where))
    count = len(numbers)
    drawn = inpaint(
        ldm.to(start_session(device).device),
        original.expand(count, -1, -1, -1),
        seen.expand(count, -1, -1, -1),
        seeds=numbers,
        steps=steps,
        guidance=None if guidance is None else CFG(guidance),
        progress=True,
        **fields_for(ldm, count, caption, label),
    )
    files, _ = ldm.pixel_format.to_file(drawn)
    for number, result in zip(numbers, files, strict=True):
        save_image(out / f"{number}.png", np.where(known, pixels, result))
    print(f"images: {out}")
    write_picture(out / "picture.png", torch.cat([original, original * seen, drawn[:6]]))


def _known(image: Path, pixels: "np.ndarray", mask: Path | None, box: str | None) -> "np.ndarray":
    """Return what of the picture is known, (h, w, 1), 1 or 0."""
    import numpy as np

    from calotype.cli.drawing import read_mask
    from calotype.cli.values import parse_numbers
    from calotype.utils.errors import UserError

    height, width = pixels.shape[:2]
    known = np.ones((height, width, 1), np.float32)
    if mask is not None:
        seen = read_mask(mask)
        if seen.shape != (height, width):
            found = f"{seen.shape[1]} x {seen.shape[0]}"
            raise UserError(f"{mask} has {found} pixels, and {image} {width} x {height}: give a mask of the same size")
        known[..., 0] = seen > 0.5
    if box is not None:
        x, y, wide, high = parse_numbers(box, "--box", "x,y,width,height")
        if not wide or not high or x + wide > width or y + high > height:
            raise UserError(f"--box {box} is not within the picture, which has {width} x {height} pixels")
        known[y : y + high, x : x + wide] = 0
    return known


def _grown(pixels: "np.ndarray", known: "np.ndarray", outpaint: str | None) -> "tuple[np.ndarray, np.ndarray]":
    """Return both on the larger canvas."""
    import numpy as np

    from calotype.cli.values import parse_numbers
    from calotype.tasks.windows import check_pixels

    if outpaint is None:
        return pixels, known
    left, top, right, bottom = parse_numbers(outpaint, "--outpaint", "left,top,right,bottom")
    check_pixels(pixels.shape[0] + top + bottom, pixels.shape[1] + left + right)
    margins = ((top, bottom), (left, right), (0, 0))
    return np.pad(pixels, margins), np.pad(known, margins)
