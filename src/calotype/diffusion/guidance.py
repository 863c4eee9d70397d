"""Guidance: a denoiser is led towards a condition, and away from what a worse estimate says."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.diffusion.conditioning import Conditioning
from calotype.diffusion.denoiser import Denoise, Denoiser
from calotype.diffusion.prediction import Estimate, Prediction, estimate, target
from calotype.utils.config import Config


@dataclass(frozen=True)
class _Guidance(Config):
    scale: float | Sequence[float] = 1.0
    interval: tuple[float, float] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.scale, Sequence):
            object.__setattr__(self, "scale", tuple(self.scale))
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(f"interval must be two noise levels that rise from 0, not {self.interval}")

    @property
    def off(self) -> bool:
        """Whether nothing is guided at any time."""
        return self.scale == 1 or (isinstance(self.scale, tuple) and set(self.scale) == {1.0})

    def strength(self, alpha: Tensor, sigma: Tensor, x: Float[Tensor, "b c h w"]) -> float | Float[Tensor, "b 1 1 1"]:
        """Return the scale that holds at a level of noise: a number, or one for every image; 1 outside the interval.

        Raises:
            ValueError: there are not as many scales as images.
        """
        if isinstance(self.scale, tuple) and len(self.scale) != len(x):
            raise ValueError(f"scale: {len(self.scale)} values for {len(x)} images; give one, or one for each")
        level = (sigma / alpha).flatten()
        low, high = self.interval or (0.0, float("inf"))
        inside = (level > low) & (level <= high)
        if not inside.any():
            return 1.0
        if isinstance(self.scale, float | int) and inside.all():
            return self.scale
        scales = torch.where(inside, torch.tensor(self.scale, dtype=x.dtype, device=inside.device), 1.0)
        return scales.to(x).expand(len(x)).view(-1, 1, 1, 1)


@dataclass(frozen=True)
class CFG(_Guidance):
    """Classifier-free guidance, uncond + scale (cond - uncond): scale 1 is off; one scale, or one for each image.

    Eq. 6, arXiv:2207.12598, whose w is scale - 1. x_0 and eps are affine in each other, so guiding both is guiding
    either. One batched pass evaluates the two conditionings; where the scale is 1, the null one is not evaluated.

    ``interval``: guide at noise levels sigma / alpha above the first and up to the second only (arXiv:2404.07724).
    ``rescale``: by this share, give the guided prediction of the network the deviation that the conditional one has in
    its image (Sec. 3.4, arXiv:2305.08891): against colours that strong guidance overdrives.
    """

    rescale: float = field(default=0.0, kw_only=True)
    kind: Literal["cfg"] = field(default="cfg", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"rescale must be between 0 and 1, not {self.rescale}")

    def __call__(self, denoiser: Denoiser, cond: Conditioning, null: Conditioning) -> Denoise:
        """Return the guided Denoise for images conditioned by ``cond``."""
        if self.off:
            return denoiser.bind(cond)
        both = Conditioning.cat(null, cond)

        def denoise(x_t: Tensor, t: Tensor) -> Estimate:
            strength = self.strength(denoiser.schedule.alpha(t), denoiser.schedule.sigma(t), x_t)
            if isinstance(strength, float | int) and strength == 1:
                return denoiser(x_t, t, cond)
            times = torch.cat([t, t]) if t.ndim else t
            unconditional, conditional = denoiser(torch.cat([x_t, x_t]), times, both).halves()
            guided = unconditional.lerp(conditional, strength)
            if not self.rescale:
                return guided
            return _rescaled(guided, conditional, x_t, denoiser.prediction, self.rescale)

        return denoise

    def rows(self, rows: slice) -> "CFG":
        """Return the guidance of a part of the images."""
        return replace(self, scale=self.scale[rows]) if isinstance(self.scale, tuple) else self


@dataclass(frozen=True)
class Autoguidance(_Guidance):
    """Guidance away from a weaker model of the same: weak + scale (denoise - weak) (Eq. 3, arXiv:2406.02507).

        Autoguidance(2.0)(strong.denoiser.bind(cond), weak.denoiser.bind(weak_cond))

    The weaker one is smaller or less trained; it needs no null, so that unconditional models can be guided. Both must
    live on the same schedule. ``interval`` is as in ``CFG``; where the scale is 1 the weaker one is not evaluated.
    """

    kind: Literal["autoguidance"] = field(default="autoguidance", kw_only=True)

    def __call__(self, denoise: Denoise, weak: Denoise) -> Denoise:
        """Return ``denoise`` as it is led away from ``weak``."""
        if self.off:
            return denoise

        def guided(x_t: Tensor, t: Tensor) -> Estimate:
            strong = denoise(x_t, t)
            strength = self.strength(strong.alpha, strong.sigma, x_t)
            if isinstance(strength, float | int) and strength == 1:
                return strong
            return weak(x_t, t).lerp(strong, strength)

        return guided


def _rescaled(guided: Estimate, own: Estimate, x_t: Tensor, prediction: Prediction, share: float) -> Estimate:
    """Return ``guided`` with the deviation of the network's prediction moved towards that of ``own``."""
    level = guided.alpha, guided.sigma
    said, plain = (target(prediction, each.x0, each.eps, *level) for each in (guided, own))
    ratio = plain.std(dim=(1, 2, 3), keepdim=True) / said.std(dim=(1, 2, 3), keepdim=True)
    return estimate(prediction, said * torch.lerp(torch.ones_like(ratio), ratio, share), x_t, *level)


def dynamic_threshold(
    x0: Float[Tensor, "b c h w"], quantile: float = 0.995, least: float = 1.0
) -> Float[Tensor, "b c h w"]:
    """Return images whose brightest values, those beyond a quantile of the absolute ones, are cut, scaled to [-1, 1].

    Dynamic thresholding (Sec. 2.3, arXiv:2205.11487) for pixels under strong guidance: ``map_x0(denoise,
    dynamic_threshold)``. An image whose quantile is below ``least`` is cut at ``least``.
    """
    at = x0.abs().flatten(1).quantile(quantile, dim=1).clamp(min=least).view(-1, 1, 1, 1)
    return x0.clamp(-at, at) / at
