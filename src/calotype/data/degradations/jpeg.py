"""What JPEG leaves of an image."""

import io

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor


def jpeg(image: Float[Tensor, "c h w"], quality: int) -> Float[Tensor, "c h w"]:
    """Return what an image in [-1, 1] is after it was saved as a JPEG of ``quality`` (1 to 100), in 8 bits.

    Three channels are colours, whose hue is stored at half the resolution, as usual; with any other number each
    channel is a grey image.
    """
    pixels = ((image.cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    parts = [np.ascontiguousarray(rearrange(pixels, "c h w -> h w c"))] if len(pixels) == 3 else list(pixels)
    decoded = [_saved(part, quality) for part in parts]
    values = rearrange(decoded[0], "h w c -> c h w") if len(pixels) == 3 else np.stack(decoded)
    return torch.from_numpy(values.astype(np.float32)).to(image) / 127.5 - 1


def _saved(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
    return np.asarray(Image.open(file))
