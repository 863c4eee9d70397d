"""From a network to what it says about the clean image."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Real
from torch import Tensor

from calotype.diffusion.conditioning import Conditioning
from calotype.diffusion.prediction import Estimate, Prediction, estimate
from calotype.diffusion.schedule import NoiseSchedule

Denoise = Callable[[Tensor, Tensor], Estimate]
"""What a solver sees: (x_t, t) -> Estimate, with conditioning and guidance inside."""


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A network, the noise schedule it lives on and what it predicts.

    The network is called as ``network(x, t, *, context, context_mask, vector, label, concat)`` with the slots that are
    filled alone; ``t`` is the schedule's ``network_time`` ``[b]``. It computes in its own dtype, that of ``x_t`` if it
    has no weights; times and everything outside it are float32 at least.

    Raises:
        ValueError: eps is predicted on a schedule that ends in pure noise, where it says nothing about the image.
    """

    network: Callable[..., Tensor]
    schedule: NoiseSchedule
    prediction: Prediction

    def __post_init__(self) -> None:
        end = torch.tensor(self.schedule.t_max, dtype=torch.float64, device="cpu")
        if self.prediction == "eps" and self.schedule.alpha(end) == 0:
            raise ValueError("prediction 'eps' cannot start from pure noise (alpha = 0 at t_max); take 'v' or 'flow'")

    def __call__(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Real[Tensor, ""] | Real[Tensor, " b"],
        conditioning: Conditioning = Conditioning(),  # noqa: B008 (frozen)
    ) -> Estimate:
        """Estimate the clean image and the noise in ``x_t`` at ``t``, one time for all images or one for each."""
        x_t = _at_least_float32(x_t)
        return estimate(self.prediction, self.output(x_t, t, conditioning), x_t, *self.schedule.marginal(t, x_t))

    def output(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Real[Tensor, ""] | Real[Tensor, " b"],
        conditioning: Conditioning = Conditioning(),  # noqa: B008 (frozen)
    ) -> Float[Tensor, "b c h w"]:
        """Return the network's bare prediction, float32 at least: what training compares with its target.

        Raises:
            ValueError: a slot of the conditioning has not one row per image.
        """
        for name, value in conditioning.slots().items():
            if len(value) != len(x_t):
                raise ValueError(f"{name}: {len(value)} rows of conditioning for {len(x_t)} images; they must be equal")
        dtype = _network_dtype(self.network, x_t)
        precise = torch.promote_types(dtype, torch.float32)
        time = self.schedule.network_time(t.double()).to(x_t.device, precise).expand(len(x_t))
        slots: dict[str, Any] = conditioning.to(x_t.device, dtype).slots()
        return _at_least_float32(self.network(x_t.to(dtype), time, **slots))

    def bind(self, conditioning: Conditioning) -> Denoise:
        """Return the denoiser with its conditioning inside."""
        return lambda x_t, t: self(x_t, t, conditioning)


def map_x0(denoise: Denoise, function: Callable[[Tensor], Tensor], *, keep_eps: bool = False) -> Denoise:
    """Return ``denoise`` with ``function`` applied to every clean image that it sees: clipped, quantised, thresholded.

        map_x0(denoise, lambda x0: x0.clamp(-1, 1))
        map_x0(denoise, lambda x0: model.quantise(x0).z, keep_eps=True)

    The noise follows, so that x_t stays what it is, unless ``keep_eps``; the reference's samplers keep it.
    """

    def mapped(x_t: Tensor, t: Tensor) -> Estimate:
        seen = denoise(x_t, t)

        def own(estimate: Estimate) -> Estimate:
            return replace(estimate.with_x0(function(estimate.x0), keep_eps=keep_eps), view=view)

        def view(estimate: Estimate) -> Estimate:
            return own(estimate if seen.view is None else seen.view(estimate))

        return own(seen)

    return mapped


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _network_dtype(network: Callable[..., Tensor], x: Tensor) -> torch.dtype:
    weights = network.parameters() if isinstance(network, torch.nn.Module) else iter(())
    return next((weight.dtype for weight in weights if weight.is_floating_point()), x.dtype)
