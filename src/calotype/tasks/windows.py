"""Images beyond the size of training, in windows of that size."""

from calotype.pipeline import LatentDiffusion
from calotype.tasks.tile import TiledLatentDiffusion, Tiling
from calotype.utils.errors import UserError
from calotype.utils.images import MAX_PIXELS
from calotype.utils.size import Size


def in_windows(model: LatentDiffusion, size: Size) -> LatentDiffusion:
    """Return ``model`` for images of ``size``: itself up to the size that it was trained at, else in windows of that
    size that overlap by half.

    Raises:
        UserError: the size does not fit the networks.
    """
    window, whole = (model.latent_shape(each)[1:] for each in (model.first_stage.size, size))
    if all(length <= trained for length, trained in zip(whole, window, strict=True)):
        return model
    stride = max(1, window[0] // 2), max(1, window[1] // 2)
    return TiledLatentDiffusion(model, Tiling(size=window, stride=stride, distance="both"))


def check_pixels(height: int, width: int, most: int = MAX_PIXELS) -> None:
    """Refuse a result of more than ``most`` pixels, by default as many as an image file may have.

    Raises:
        UserError: says how large.
    """
    if height * width > most:
        raise UserError(f"the result would be {width} x {height} pixels, and {most:,} is the most: make it smaller")
