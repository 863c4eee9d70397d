"""A chain of blurs, resizes, noise and JPEG in random order: what happens to photographs on their way."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.data.degradations.base import Degradation
from calotype.data.degradations.blur import filtered, gaussian_kernel
from calotype.data.degradations.jpeg import jpeg
from calotype.data.degradations.noise import add_noise
from calotype.utils.seeds import python_random

Step = Callable[[Float[Tensor, "c h w"]], Float[Tensor, "c h w"]]
_HALVED, _RESIZED, _JPEG = 0.25, 0.75, 0.9


@dataclass(frozen=True, kw_only=True)
class BSRGAN(Degradation):
    """The degradation of arXiv:2103.14006 (Sec. 3), as the reference has it; ``BSRGAN_LIGHT`` is the milder one.

    In random order: ``blurs`` Gaussian blurs, half of them of one width and half of two, whose standard deviations and
    variances are up to ``blur_width`` times (2 + 0.2 factor) and (4 + factor); with a probability of 3/4 a resize to
    any size down to half of the small image's; a resize to the small image's; noise of ``noise`` levels (of 255, from
    the first to the second); and, nine times of ten, JPEG of a quality in ``jpeg``. In the end JPEG once more. A factor
    of 4 is, one time of four, 2 and 2. Every resize is bilinear, bicubic or by area.

    The paper's nearest-neighbour resize and camera pipeline are not there, and kernels are as large as their Gaussian.
    """

    kind: Literal["bsrgan"] = "bsrgan"
    blurs: int = 2
    blur_width: float = 1.0
    noise: tuple[int, int] = (2, 25)
    jpeg: tuple[int, int] = (30, 95)

    def __post_init__(self) -> None:
        if self.blurs < 0 or self.blur_width < 0:
            raise ValueError(f"blurs and blur_width must be at least 0, not {self.blurs} and {self.blur_width}")
        for name, (low, high), least, most in (("noise", self.noise, 0, 255), ("jpeg", self.jpeg, 1, 100)):
            if not least <= low <= high <= most:
                raise ValueError(f"{name} must be two rising numbers from {least} to {most}, not {(low, high)}")

    def _degrade(
        self, image: Float[Tensor, "c h w"], factor: int, generator: torch.Generator
    ) -> Float[Tensor, "c h2 w2"]:
        height, width = (length // factor for length in image.shape[-2:])
        random = python_random(generator)
        if factor == 4 and random.random() < _HALVED:
            image, factor = _resized(image, 2 * height, 2 * width, random), 2

        def blur(image: Tensor) -> Tensor:
            return self._blurred(image, factor, random)

        def resize(image: Tensor) -> Tensor:
            shrink = random.uniform(1, 2 * factor)
            rows, columns = (max(1, int(factor * length / shrink)) for length in (height, width))
            return _resized(image, rows, columns, random) if random.random() < _RESIZED else image

        def resize_last(image: Tensor) -> Tensor:
            return _resized(image, height, width, random)

        def noise(image: Tensor) -> Tensor:
            level, highest = (2 * number / 255 for number in (random.randint(*self.noise), self.noise[1]))
            return add_noise(image, level, highest, random, generator)

        def compress(image: Tensor) -> Tensor:
            quality = random.randint(*self.jpeg)
            return jpeg(image, quality) if random.random() < _JPEG else image

        steps: list[Step] = [*[blur] * self.blurs, resize, resize_last, noise, compress]
        for step in _shuffled(steps, resize, resize_last, random):
            image = step(image).clamp(-1, 1)
        return jpeg(image, random.randint(*self.jpeg))

    def _blurred(self, image: Float[Tensor, "c h w"], factor: int, random: Random) -> Float[Tensor, "c h w"]:
        """Blur by the same width in all directions, or by two."""
        if random.random() < 0.5:
            widest = self.blur_width * (4 + factor)
            kernel = gaussian_kernel(
                (random.uniform(0, widest), random.uniform(0, widest)), random.uniform(0, torch.pi)
            )
        else:
            variance = random.uniform(0, self.blur_width * (2 + 0.2 * factor)) ** 2
            kernel = gaussian_kernel((variance, variance))
        return filtered(image, kernel)


BSRGAN_LIGHT = BSRGAN(blurs=1, blur_width=0.25, noise=(1, 2), jpeg=(80, 95))


def _shuffled(steps: list[Step], first: Step, second: Step, random: Random) -> list[Step]:
    """Return the steps in random order, but ``first`` before ``second``."""
    shuffled = random.sample(steps, len(steps))
    places = sorted((shuffled.index(first), shuffled.index(second)))
    for place, step in zip(places, (first, second), strict=True):
        shuffled[place] = step
    return shuffled


def _resized(image: Float[Tensor, "c h w"], height: int, width: int, random: Random) -> Float[Tensor, "c h2 w2"]:
    """Resize without antialiasing, which area alone does not need."""
    mode = random.choice(("bilinear", "bicubic", "area"))
    return F.interpolate(image[None], (height, width), mode=mode)[0]
