"""``calotype layout``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from calotype.utils.boxes import LayoutObject


def command(
    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    layout: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="LAYOUT.json")] = None,
    /,
    *,
    objects: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="object")] = (),
    caption: str | None = None,
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None,
    seeds: str = "0-7",
    steps: int = 20,
    guidance: float | None = None,
    size: str | None = None,
    out: Path = Path("layout"),
    device: str = "auto",
) -> None:
    """Draw objects where they are asked to be, once per seed, with a model that was trained to (--task layout).

    calotype layout runs/mine layout.json --seeds 0-7
    calotype layout runs/mine --object "dog:0.1,0.5,0.4,0.4" --object "house:0.5,0.2,0.4,0.5"

    Boxes are x, y, width and height as shares of the image, from its top left corner.

    Args:
        model: What `calotype run` or `calotype train` made.
        layout: A list of objects such as {"class": "dog", "box": [0.1, 0.5, 0.4, 0.4]}, or a row of a metadata.jsonl.
        objects: CLASS:X,Y,WIDTH,HEIGHT; once for each object.
        caption: What else to draw, for models that take captions as well.
        label: The class to draw, for models that take classes as well.
        seeds: Seeds as a list of numbers and ranges: 0-15, 3,7,20-23.
        steps: Steps of the solver, DPM-Solver++(2M).
        guidance: Scale of classifier-free guidance: 1 is off, larger follows the layout more closely (default 3).
        size: Pixels of the images, 64 or (width x height) 96x64; by default as in training.
        out: Folder for the images, as SEED.png (or .tif), and picture.png: the boxes beside the images.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    import numpy as np

    from calotype.artifact import read_artifact
    from calotype.cli.drawing import check_options, fields_for, write_beside, write_images
    from calotype.cli.values import parse_seeds
    from calotype.diffusion import CFG
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.tasks.layout import layout_to_image, read_layout
    from calotype.training.session import start_session
    from calotype.utils.box_picture import draw_boxes
    from calotype.utils.errors import UserError
    from calotype.utils.size import parse_size

    numbers = parse_seeds(seeds)
    check_options(steps=steps, columns=1, guidance=guidance, grid=None)
    asked = [*(read_layout(layout) if layout is not None else ()), *_parse(objects)]
    if not asked:
        raise UserError('name a layout, or objects with --object "dog:0.1,0.5,0.4,0.4"')
    ldm = load_latent_diffusion(read_artifact(model, kind=LatentDiffusion.kind))
    images = layout_to_image(
        ldm.to(start_session(device).device),
        asked,
        seeds=numbers,
        steps=steps,
        guidance=None if guidance is None else CFG(guidance),
        size=None if size is None else parse_size(size),
        clip=False,
        progress=True,
        **fields_for(ldm, len(numbers), caption, label),
    )
    write_images(ldm, images, names=numbers, out=out, grid=None, columns=1)
    blank = np.full((*images.shape[2:], 3), 255, np.uint8)
    write_beside(out / "picture.png", draw_boxes(blank, asked), images)


def _parse(objects: tuple[str, ...]) -> "list[LayoutObject]":
    """Return what ``--object`` names.

    Raises:
        UserError: one is not CLASS:X,Y,WIDTH,HEIGHT, or out of range.
    """
    from calotype.tasks.layout import parse_layout
    from calotype.utils.errors import UserError

    found = []
    for text in objects:
        name, _, numbers = text.rpartition(":")
        try:
            box = [float(number) for number in numbers.split(",")]
        except ValueError:
            box = []
        if not name or len(box) != 4:
            raise UserError(f"--object must be CLASS:X,Y,WIDTH,HEIGHT such as dog:0.1,0.5,0.4,0.4, not {text!r}")
        found += parse_layout([{"class": name.strip(), "box": box}], f"--object {text!r}:")
    return found
