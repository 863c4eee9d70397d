"""``calotype retrieve``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

    from calotype.encoders import RetrievalIndex
    from calotype.pipeline import LatentDiffusion


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    caption: str | None = None,
    image: Path | None = None,
    index: Path | None = None,
    neighbours: int | None = None,
    seeds: str = "0-7",
    steps: int = 20,
    guidance: float | None = None,
    grid: Path | None = None,
    out: Path | None = None,
    columns: int = 8,
    device: str = "auto",
) -> None:
    """Draw images with their nearest neighbours at hand, with a model that was trained to (--task retrieve).

    calotype retrieve runs/mine --caption "an oak in fog" --grid oaks.png
    calotype retrieve runs/mine --image oak.png --index paintings.safetensors

    Args:
        model: What `calotype run` or `calotype train` made with --task retrieve.
        caption: Look for the images whose captions are nearest to this; or give an image.
        image: Look for the images that are nearest to this one.
        index: A data base of other images (`calotype retrieve index`); by default those of training.
        neighbours: How many to look for; by default as many as in training.
        seeds: Seeds as a list of numbers and ranges: 0-15, 3,7,20-23.
        steps: Steps of the solver, DPM-Solver++(2M).
        guidance: Scale of classifier-free guidance: 1 is off, larger stays nearer to the neighbours (default 3).
        grid: Write the neighbours (first row) and all results into this one PNG (default: samples.png if there is no
            --out).
        out: Write each result into this folder, as SEED.png.
        columns: Images per row of the grid.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    import torch

    from calotype.artifact import read_artifact
    from calotype.cli.drawing import check_options, open_picture, write_images
    from calotype.cli.values import model_folder, parse_seeds
    from calotype.diffusion import CFG
    from calotype.encoders import RetrievalIndex
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.tasks.retrieve import retrieve
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError

    numbers = parse_seeds(seeds)
    check_options(steps=steps, columns=columns, guidance=guidance, grid=grid)
    if (caption is None) == (image is None):
        raise UserError("say what to look for: either --caption or --image")
    ldm = load_latent_diffusion(read_artifact(model_folder(model), kind=LatentDiffusion.kind))
    base = ldm.index if index is None else RetrievalIndex.load(index)
    picture = None if image is None else open_picture(ldm, image, None)
    found = retrieve(
        ldm.to(start_session(device).device),
        captions=None if caption is None else [caption] * len(numbers),
        images=None if picture is None else picture.expand(len(numbers), -1, -1, -1),
        index=base,
        count=neighbours,
        seeds=numbers,
        steps=steps,
        guidance=None if guidance is None else CFG(guidance),
        progress=True,
    )
    assert base is not None
    for row in found.rows[0]:
        words = base.contents.captions[row]
        print(f"neighbour: {base.contents.names[row]}{f' ({words})' if words else ''}")
    shown = _pictures(ldm, base, found.rows[0])
    if picture is not None and shown is not None:
        shown = torch.cat([picture, shown])
    if shown is not None:  # a row of its own, filled up with white
        width = min(columns, max(len(shown), len(numbers)))
        shown = torch.cat([shown, torch.ones(-len(shown) % width, *shown.shape[1:])])
        columns = width
    write_images(ldm, found.images, names=numbers, out=out, grid=grid, columns=columns, before=shown)


def _pictures(
    ldm: "LatentDiffusion", index: "RetrievalIndex", rows: "Sequence[int]"
) -> "Float[Tensor, 'k c h w'] | None":
    """Return the images in these rows of an index, None where they are no longer where they were."""
    import torch

    from calotype.chain.source import open_all
    from calotype.chain.stages import loader
    from calotype.cli.drawing import open_picture
    from calotype.utils.errors import UserError

    source, names = index.contents.source, [index.contents.names[row] for row in rows]
    try:
        if source.startswith("emoji"):
            images = loader(open_all(source), ldm.first_stage.size, 0)
            numbers = {record.name: number for number, record in enumerate(images.images.records)}
            return images.at([numbers[name] for name in names]).images
        return torch.cat([open_picture(ldm, Path(source) / name, None) for name in names])
    except UserError as error:
        print(f"the neighbours are not shown: {error}")
        return None
