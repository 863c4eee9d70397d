"""What the verbs that draw images have in common: checks, fields, and the files they write."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, UInt8
    from torch import Tensor

    from calotype.pipeline import LatentDiffusion
    from calotype.utils.size import Size


def check_options(*, steps: int, columns: int, guidance: float | None, grid: Path | None) -> None:
    """Refuse options before a model is loaded.

    Raises:
        UserError: names the first that does not fit.
    """
    from calotype.cli.values import check_positive
    from calotype.utils.errors import UserError

    if not 1 <= steps <= 1000:
        raise UserError(f"--steps must be between 1 and 1000, not {steps}")
    check_positive(columns=columns)
    if grid is not None and grid.suffix.lower() != ".png":
        raise UserError(f"--grid writes a PNG: give a name that ends in .png, not {grid.name!r}")
    if guidance is not None and not math.isfinite(guidance):
        raise UserError(f"--guidance must be a number, not {guidance}")


def fields_for(ldm: "LatentDiffusion", count: int, caption: str | None, label: str | None) -> dict[str, Any]:
    """Return the fields of ``count`` images of one caption and class; say which words the model does not know."""
    if unknown := ldm.unknown_words(caption or ""):
        print(f"words this model has never seen, left out: {', '.join(unknown)}")
    return {name: [value] * count for name, value in (("caption", caption), ("class", label)) if value is not None}


def write_images(
    ldm: "LatentDiffusion",
    images: "Float[Tensor, 'n c h w']",
    *,
    names: Sequence[int],
    out: Path | None,
    grid: Path | None,
    columns: int,
    before: "Float[Tensor, 'k c h w'] | None" = None,
) -> None:
    """Write each image into the folder ``out``, as NAME.png, and all into the picture ``grid``; say where.

    In the grid images come after those of ``before``: what they were drawn of.

    ``grid`` is samples.png if there is neither. Of ``images`` that are not clipped it says how many values had to be.
    """
    import torch

    from calotype.cli.values import clipped_text
    from calotype.utils.images import image_grid, save_image, save_png

    files, clipped = ldm.pixel_format.to_file(images)
    if out is not None:
        for name, pixels in zip(names, files, strict=True):
            save_image(out / f"{name}.png", pixels)
        print(f"images: {out}")
    if grid is not None or out is None:
        path = grid or Path("samples.png")
        shown = images if before is None else torch.cat([before, images])
        save_png(path, image_grid(shown, columns=min(columns, len(shown))))
        print(f"grid: {path}")
    if clipped:
        print(clipped_text(clipped, images.numel()))


def open_picture(ldm: "LatentDiffusion", path: Path, size: "Size | None") -> "Float[Tensor, '1 c h w']":
    """Return the centre of an image file as the model's images are: in [-1, 1], of ``size``.

    Raises:
        UserError: as ``read_picture``.
    """
    pixels = _crop(ldm, read_picture(ldm, path), size)
    return ldm.pixel_format.to_model(pixels).permute(2, 0, 1)[None]


def read_picture(ldm: "LatentDiffusion", path: Path) -> "np.ndarray":
    """Return the pixels of an image file, (h, w, c), in the channels and depth of the model's images.

    Raises:
        UserError: it cannot be read, or has other channels or another depth than the model.
    """
    from calotype.data.survey import narrowed
    from calotype.utils.errors import UserError
    from calotype.utils.images import read_image

    pixel_format = ldm.pixel_format
    pixels = narrowed(read_image(path), pixel_format)
    if (pixels.shape[2], str(pixels.dtype)) != (pixel_format.channels, pixel_format.dtype):
        found = f"{pixels.shape[2]} channels of {pixels.dtype}"
        raise UserError(f"{path} has {found}, but the model was trained on {pixel_format}")
    return pixels


def open_mask(ldm: "LatentDiffusion", path: Path, size: "Size | None") -> "Float[Tensor, '1 1 h w']":
    """Return the centre of a mask file, of ``size``, 1 where it is white (brighter than half), 0 where it is black.

    Raises:
        UserError: it cannot be read.
    """
    import torch

    known = _crop(ldm, read_mask(path)[..., None], size)[..., 0]
    return torch.from_numpy(known > 0.5).float()[None, None]


def read_mask(path: Path) -> "np.ndarray":
    """Return a mask file's brightness, (h, w), between 0 and 1 (float32).

    Raises:
        UserError: it cannot be read.
    """
    import numpy as np

    from calotype.utils.images import read_image

    pixels = read_image(path)
    highest = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1.0
    return np.asarray(pixels.mean(axis=2, dtype=np.float32) / highest)


def write_picture(path: Path, images: "Float[Tensor, 'n c h w']", columns: int | None = None, most: int = 512) -> None:
    """Write images in [-1, 1] side by side as one PNG, none larger than ``most`` pixels along an axis; say where."""
    import torch.nn.functional as F

    from calotype.utils.images import image_grid, save_png

    if (largest := max(images.shape[-2:])) > most:
        size = [max(1, round(length * most / largest)) for length in images.shape[-2:]]
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    save_png(path, image_grid(images, columns=columns or len(images)))
    print(f"picture: {path}")


def write_beside(path: Path, asked: "UInt8[np.ndarray, 'height width 3']", images: "Float[Tensor, 'n c h w']") -> None:
    """Write a picture of what was asked for, and images beside it, each pixel repeated until they are as large."""
    import torch

    colours = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    down, right = (asked.shape[axis] // images.shape[2 + axis] for axis in (0, 1))
    large = colours.repeat_interleave(down, 2).repeat_interleave(right, 3)
    first = torch.from_numpy(asked.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    write_picture(path, torch.cat([first, large]), columns=min(6, 1 + len(images)))


def _crop(ldm: "LatentDiffusion", pixels: "np.ndarray", size: "Size | None") -> "np.ndarray":
    from calotype.data.transforms import Transform

    height, width = (extent * ldm.autoencoder.factor for extent in ldm.latent_shape(size)[1:])
    return Transform(size=(height, width)).apply(pixels)
