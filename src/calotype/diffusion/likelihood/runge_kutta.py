"""Dormand and Prince's pair of Runge-Kutta formulas: order 5 with an error estimate of order 4."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

FIRST, SAFETY, SHRINK, GROW, SMALLEST = 0.01, 0.9, 0.2, 5.0, 1e-10

_C = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_A = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def runge_kutta(
    slope: Callable[[Tensor, float], Tensor],
    y: Float[Tensor, "b n"],
    start: float,
    end: float,
    *,
    rtol: float,
    atol: float,
) -> Float[Tensor, "b n"]:
    """Return y at ``end`` where dy/dr = slope(y, r), from ``y`` at ``start`` < ``end``, in steps that the error allows.

    A step is taken where rms(error / (atol + rtol max(|y|, |y'|))) is at most 1 for every row; rows share their steps.

    Raises:
        FloatingPointError: a slope is not finite, or no step is small enough.
    """
    r, h = start, FIRST * (end - start)
    first = slope(y, r)
    while r < end:
        h = min(h, end - r)
        slopes = [first]
        for c, row in zip(_C[1:], _A[1:], strict=True):
            inner = y + h * _combine(row, slopes)
            slopes.append(slope(inner, min(r + c * h, end)))
        scale = atol + rtol * torch.maximum(y.abs(), inner.abs())
        error = (h * _combine(_ERROR, slopes) / scale).square().mean(dim=1).sqrt().max().item()
        if not error < float("inf"):
            raise FloatingPointError(f"an estimate between r = {r:.4g} and {r + h:.4g} is not finite")
        if error <= 1:
            y, r, first = inner, r + h if h < end - r else end, slopes[-1]
        h *= min(GROW, max(SHRINK, SAFETY * max(error, 1e-10) ** -0.2))
        if r < end and h < SMALLEST * (end - start):
            raise FloatingPointError(f"no step from r = {r:.4g} is small enough for rtol {rtol:g} and atol {atol:g}")
    return y


def _combine(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    return sum((w * k for w, k in zip(weights, slopes, strict=True) if w), torch.zeros_like(slopes[0]))
