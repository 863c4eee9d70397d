"""How the nodes of a grid are spread between two times."""

import functools
import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from calotype.diffusion.grid import Spacing

if TYPE_CHECKING:
    from calotype.diffusion.schedule.base import NoiseSchedule

RHO, BETA = 7.0, 0.6


def spaced_times(
    schedule: "NoiseSchedule", nodes: int, spacing: Spacing, start: float, end: float
) -> Float64[Tensor, " nodes"]:
    """Return times that fall from ``start`` to ``end``, both included; with u = 0 .. 1 along the nodes:

    - ``linspace``: equal differences in time;
    - ``quadratic``: in the square root of the time since the clean image;
    - ``log_snr``: in log SNR;
    - ``karras``: in s^(1/7), for s = sigma / alpha (Eq. 5, arXiv:2206.00364: rho = 7);
    - ``beta``: in time, at the quantiles 1 - u of Beta(0.6, 0.6): dense at both ends (arXiv:2407.12173);
    - ``trailing``: in time, the clean image being the node after the last (Sec. 3.3, arXiv:2305.08891);
    - ``leading``: those of ``trailing``, moved so that the last one is ``t_min``.

    Where ``start`` is pure noise, log SNR begins at a hundredth of the way to ``end``; the first node stays ``start``.

    Raises:
        ValueError: ``trailing`` or ``leading`` with steps that are too small for the schedule.
    """
    linspace = functools.partial(torch.linspace, dtype=torch.float64, device="cpu")
    if spacing == "trailing" or spacing == "leading":
        t = linspace(start, schedule.t_clean, nodes + 1)[:-1]
        if t[-1] < schedule.t_min:
            raise ValueError(f"steps: {nodes} are too many for spacing {spacing!r}; take 'log_snr' or fewer")
        return t if spacing == "trailing" else t - t[-1] + schedule.t_min
    match spacing:
        case "quadratic":
            root = linspace((start - schedule.t_clean) ** 0.5, (end - schedule.t_clean) ** 0.5, nodes)
            t = schedule.t_clean + root**2
        case "log_snr" | "karras":
            first, second, high = schedule.log_snr(linspace(start, end, 101)[[0, 1, -1]]).tolist()
            low = first if math.isfinite(first) else second
            if spacing == "log_snr":
                log_snr = linspace(low, high, nodes)
            else:
                log_snr = -2 * RHO * linspace(math.exp(-low / 2 / RHO), math.exp(-high / 2 / RHO), nodes).log()
            t = schedule.time(log_snr)
        case "beta":
            t = end + (start - end) * beta_quantile(linspace(1, 0, nodes), BETA)
        case _:
            t = linspace(start, end, nodes)
    t[-1], t[0] = end, start
    return t.clamp(end, start)


def beta_quantile(q: Float64[Tensor, " n"], a: float) -> Float64[Tensor, " n"]:
    """Return where the distribution function of Beta(a, a) is ``q``, by bisection.

    Below one half the function is a power series, the integral of u^(a-1) (1 - u)^(a-1) term by term; beyond, the
    distribution is symmetric.
    """
    n = torch.arange(60, dtype=torch.float64)
    coefficients = torch.cat([n.new_ones(1), ((n[1:] - a) / n[1:]).cumprod(0)]) / (a + n)
    whole = math.exp(2 * math.lgamma(a) - math.lgamma(2 * a))
    wanted, low = torch.minimum(q, 1 - q), torch.zeros_like(q)
    for halving in range(2, 60):
        middle = low + 0.5**halving
        reached = (coefficients * middle[:, None] ** (a + n)).sum(1) / whole
        low = torch.where(reached <= wanted, middle, low)
    return torch.where(q <= 0.5, low, 1 - low)
