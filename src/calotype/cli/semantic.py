"""``calotype semantic``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    label_map: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MAP.png")],
    /,
    *,
    windows: bool = False,
    caption: str | None = None,
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None,
    seeds: str = "0-7",
    steps: int = 20,
    guidance: float | None = None,
    out: Path = Path("semantic"),
    device: str = "auto",
) -> None:
    """Draw a label map, once per seed and at its size, with a model that was trained to (--task semantic).

    calotype semantic runs/mine map.png --seeds 0-7
    calotype semantic runs/mine large-map.png --windows

    Args:
        model: What `calotype run` or `calotype train` made.
        label_map: An image with a palette, of which the index is the label, or in grey, of which the value is; 255 is
            no label. It may have any size, also one much larger than the images of training.
        windows: Draw a large map in overlapping windows: with less memory, and less of one piece.
        caption: What else to draw, for models that take captions as well.
        label: The class to draw, for models that take classes as well.
        seeds: Seeds as a list of numbers and ranges: 0-15, 3,7,20-23.
        steps: Steps of the solver, DPM-Solver++(2M).
        guidance: Scale of classifier-free guidance: 1 is off, larger follows the map more closely (default 3).
        out: Folder for the images, as SEED.png (or .tif), and picture.png: the map beside the images.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    from calotype.artifact import read_artifact
    from calotype.cli.drawing import check_options, fields_for, write_beside, write_images
    from calotype.cli.values import parse_seeds
    from calotype.diffusion import CFG
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.tasks.semantic import semantic_synthesis
    from calotype.training.session import start_session
    from calotype.utils.box_picture import enlarged
    from calotype.utils.label_maps import coloured, read_labels

    numbers = parse_seeds(seeds)
    check_options(steps=steps, columns=1, guidance=guidance, grid=None)
    labels = read_labels(label_map)
    ldm = load_latent_diffusion(read_artifact(model, kind=LatentDiffusion.kind))
    images = semantic_synthesis(
        ldm.to(start_session(device).device),
        labels,
        seeds=numbers,
        windows=windows,
        steps=steps,
        guidance=None if guidance is None else CFG(guidance),
        clip=False,
        progress=True,
        **fields_for(ldm, len(numbers), caption, label),
    )
    write_images(ldm, images, names=numbers, out=out, grid=None, columns=1)
    write_beside(out / "picture.png", enlarged(coloured(labels)), images)
