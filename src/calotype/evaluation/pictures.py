"""Pictures for reports: pairs of images with a line of text below each."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from calotype.utils.images import image_grid

LEAST_WIDTH, LINE, GAP = 96, 15, 8


def labelled_pairs(
    pairs: Sequence[tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]], labels: Sequence[str], columns: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Return a grid of pairs, one image above the other and a label below them, on white; RGB, or grey with 1 channel.

    Images are in [-1, 1]; of more than 3 channels the first 3 are shown, of 2 the first. Those under 96 pixels are
    enlarged by a whole number.
    """
    strips = []
    for start in range(0, len(pairs), columns):
        row = pairs[start : start + columns]
        shown = [_colours(torch.stack(side)) for side in zip(*row, strict=True)]
        enlarged = -(-LEAST_WIDTH // shown[0].shape[-1])
        tiles = torch.cat(shown).repeat_interleave(enlarged, -1).repeat_interleave(enlarged, -2)
        pixels = image_grid(tiles, columns=len(row))
        strips.append(_with_text(pixels, labels[start : start + columns], pixels.shape[1] // len(row)))
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, GAP), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    return np.concatenate(padded)[:-GAP]


def _colours(images: Tensor) -> Tensor:
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1]


def _with_text(pixels: np.ndarray, labels: Sequence[str], spacing: int) -> np.ndarray:
    band = Image.new("L", (pixels.shape[1], LINE), 255)
    draw = ImageDraw.Draw(band)
    for column, label in enumerate(labels):
        draw.text((column * spacing + 3, 1), label, fill=0, font=ImageFont.load_default_imagefont())
    text = np.repeat(np.asarray(band)[..., None], pixels.shape[2], axis=2)
    return np.concatenate([pixels, text])
