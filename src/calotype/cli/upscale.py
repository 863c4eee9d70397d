"""``calotype upscale``."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor

SHOWN, SIDE = 6, 64


def command(
    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    images: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE|FOLDER")],
    /,
    *,
    out: Path = Path("upscaled"),
    seed: int = 0,
    steps: int = 20,
    batch_size: int = 16,
    device: str = "auto",
) -> None:
    """Enlarge a picture, or all pictures of a folder, by the factor that the model was trained for.

    calotype upscale runs/sharp photo.jpg
    calotype upscale runs/sharp thumbnails/ --out large/

    Pictures may have any size: what is larger than the images of training is drawn in windows that overlap. Each result
    is written as soon as it is there.

    Args:
        model: What `calotype run FOLDER --task upscale` or `calotype train` made.
        images: A picture, or a folder of them.
        out: Folder for the results, under the pictures' names, and for comparison.png: the centres of the first six,
            with their pixels as they are, by bicubic interpolation, and by the model.
        seed: What the model adds depends on it.
        steps: Steps of the solver, DPM-Solver++(2M).
        batch_size: The most pictures of one size to enlarge at once.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    import numpy as np
    import torch

    from calotype.artifact import read_artifact
    from calotype.cli.drawing import check_options, read_picture, write_picture
    from calotype.cli.values import check_positive, check_seed
    from calotype.pipeline import LatentDiffusion, load_latent_diffusion
    from calotype.tasks.upscale import upscale, upscaling_factor
    from calotype.training.session import start_session
    from calotype.utils.images import save_image
    from calotype.utils.progress import progress
    from calotype.utils.size import height_width

    check_options(steps=steps, columns=1, guidance=None, grid=None)
    check_positive(batch_size=batch_size)
    check_seed(seed)
    ldm = load_latent_diffusion(read_artifact(model, kind=LatentDiffusion.kind))
    factor, targets = upscaling_factor(ldm), _targets(images, out)
    ldm.to(start_session(device).device)
    trained, alone = [side // factor for side in height_width(ldm.first_stage.size)], len(targets) == 1
    compared: list[Tensor] = []
    with progress("enlarging", len(targets), quiet=alone) as bar:
        for batch in _batches(targets, lambda path: read_picture(ldm, path), batch_size, trained):
            small = ldm.pixel_format.to_model(np.stack(list(batch.values()))).permute(0, 3, 1, 2)
            large = upscale(ldm, small, seeds=[seed] * len(small), steps=steps, progress=alone)
            for path, pixels in zip(batch, ldm.pixel_format.to_file(large)[0], strict=True):
                save_image(targets[path], pixels)
            compared += [_compared(*pair, factor) for pair in zip(small, large, strict=True)][: SHOWN - len(compared)]
            bar.advance(len(batch))
    print(f"images: {out}")
    write_picture(out / "comparison.png", torch.cat(compared), columns=3)


def _targets(images: Path, out: Path) -> dict[Path, Path]:
    """Return where the result for each picture goes; names that differ in their endings alone keep these."""
    from calotype.data.folder import SUFFIXES
    from calotype.utils.errors import UserError

    if images.is_file():
        found = [images]
    else:
        if not images.exists():
            raise UserError(f"{images} does not exist; give a picture, or a folder of them")
        found = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"{images} holds no picture")
    targets: dict[Path, Path] = {}
    for path in found:
        name = path.relative_to(images.parent if images.is_file() else images)
        target = (out / name).with_suffix(".png")
        targets[path] = target if target not in targets.values() else target.with_name(f"{path.name}.png")
        if targets[path].resolve() in {each.resolve() for each in found}:
            raise UserError(f"--out: {targets[path]} is one of the pictures themselves; choose another folder")
    return targets


def _batches(
    paths: Collection[Path], read: "Callable[[Path], np.ndarray]", most: int, trained: Sequence[int]
) -> "Iterator[dict[Path, np.ndarray]]":
    """Yield pictures by their paths: up to ``most`` of one size in a row, those larger than ``trained`` one by one.

    Raises:
        UserError: none can be read. (Of several, those that cannot are left out, and said.)
    """
    from calotype.utils.errors import UserError

    batch: dict[Path, np.ndarray] = {}
    for path in paths:
        try:
            pixels = read(path)
        except UserError as error:
            if len(paths) == 1:
                raise
            print(f"left out: {error}")
            continue
        large = any(side > length for side, length in zip(pixels.shape, trained, strict=False))
        if batch and (large or len(batch) == most or pixels.shape != next(iter(batch.values())).shape):
            yield batch
            batch = {}
        batch[path] = pixels
    if not batch:
        raise UserError("none of the pictures can be enlarged")
    yield batch


def _compared(
    small: "Float[Tensor, 'c h w']", large: "Float[Tensor, 'c h2 w2']", factor: int
) -> "Float[Tensor, '3 c side side']":
    """Return the centre of an image, by its pixels, by bicubic interpolation, and as it was drawn; white beyond it."""
    import torch
    import torch.nn.functional as F

    nearest = F.interpolate(small[None], scale_factor=factor, mode="nearest")
    bicubic = F.interpolate(small[None], scale_factor=factor, mode="bicubic", antialias=True).clamp(-1, 1)
    whole = torch.cat([nearest, bicubic, large[None]])
    side = SIDE * factor
    top, left = (max(0, (length - side) // 2) for length in whole.shape[-2:])
    centre = whole[..., top : top + side, left : left + side]
    return F.pad(centre, (0, side - centre.shape[-1], 0, side - centre.shape[-2]), value=1.0)
