"""Guidance: a denoiser and two conditionings become one Denoise."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion.conditioning import Conditioning
from calotype.diffusion.denoiser import Denoise, Denoiser
from calotype.diffusion.prediction import Estimate
from calotype.utils.config import Config


@dataclass(frozen=True)
class CFG(Config):
    """Classifier-free guidance, uncond + scale (cond - uncond): scale 1 is off.

    Eq. 6, arXiv:2207.12598, whose w is scale - 1.

    x_0 and eps are affine in each other, so guiding both is guiding either. One batched pass evaluates the two
    conditionings; with scale 1 the null one is not evaluated at all.
    """

    scale: float = 1.0
    kind: Literal["cfg"] = field(default="cfg", kw_only=True)

    def __call__(self, denoiser: Denoiser, cond: Conditioning, null: Conditioning) -> Denoise:
        """Return the guided Denoise for images conditioned by ``cond``."""
        if self.scale == 1:
            return denoiser.bind(cond)
        both = Conditioning.cat(null, cond)

        def denoise(x_t: Tensor, t: Tensor) -> Estimate:
            times = torch.cat([t, t]) if t.ndim else t
            unconditional, conditional = denoiser(torch.cat([x_t, x_t]), times, both).halves()
            return unconditional.lerp(conditional, self.scale)

        return denoise


def dynamic_threshold(
    x0: Float[Tensor, "b c h w"], quantile: float = 0.995, least: float = 1.0
) -> Float[Tensor, "b c h w"]:
    """Return images whose brightest values, those beyond a quantile of the absolute ones, are cut, scaled to [-1, 1].

    Dynamic thresholding (Sec. 2.3, arXiv:2205.11487) for pixels under strong guidance: ``map_x0(denoise,
    dynamic_threshold)``. An image whose quantile is below ``least`` is cut at ``least``.
    """
    at = x0.abs().flatten(1).quantile(quantile, dim=1).clamp(min=least).view(-1, 1, 1, 1)
    return x0.clamp(-at, at) / at
