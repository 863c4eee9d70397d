"""Noise schedules: how much image, alpha(t), and how much noise, sigma(t), there is in x_t = alpha x_0 + sigma eps."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Real
from torch import Tensor

from calotype.diffusion.grid import Grid, Spacing
from calotype.diffusion.schedule.spacing import spaced_times
from calotype.utils.config import Config


class NoiseSchedule(Config, ABC):
    """alpha and sigma over real times that grow towards noise, in the schedule's own units.

    Every method takes times of any floating type and shape, computes in float64 and answers in the type it was given.
    What asks for ``Real`` times takes a table's indices as well, and answers in float64; so it does for a plain number.
    """

    usual_spacing: ClassVar[Spacing] = "trailing"
    """The spacing of a grid for which none is named."""

    @property
    @abstractmethod
    def t_max(self) -> float:
        """The noisiest time."""

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The least noisy time that is worth showing to a network."""

    @property
    @abstractmethod
    def t_clean(self) -> float:
        """The time at which no noise is left."""

    @abstractmethod
    def _marginal(self, t: Float64[Tensor, "*s"]) -> tuple[Float64[Tensor, "*s"], Float64[Tensor, "*s"]]:
        """Return alpha and sigma."""

    @abstractmethod
    def time(self, log_snr: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the time at which the log SNR is ``log_snr``: the inverse of ``log_snr``."""

    @abstractmethod
    def network_time(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return what a network is shown for ``t``."""

    @abstractmethod
    def training_time(self, u: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Map ``u`` in [0, 1) to a time to train at; uniform ``u`` gives every time equal weight."""

    @abstractmethod
    def training_position(self, t: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the ``u`` of which ``training_time`` makes ``t``; differentiable, at times in between as well."""

    def alpha(self, t: float | Real[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the factor of the image."""
        return in_type_of(t, self._marginal(as_time(t))[0])

    def sigma(self, t: float | Real[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return the factor of the noise."""
        return in_type_of(t, self._marginal(as_time(t))[1])

    def log_snr(self, t: float | Real[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Return log(alpha^2 / sigma^2), strictly decreasing in t."""
        alpha, sigma = self._marginal(as_time(t))
        return in_type_of(t, 2 * (alpha.log() - sigma.log()))

    def marginal(self, t: Real[Tensor, "*b"], x: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma ready to multiply ``x``: scalars for one time, ``[n, 1, 1, 1]`` for one per image."""
        alpha, sigma = self._marginal(t.double())
        if t.ndim == 0:
            return alpha, sigma
        return alpha.to(x).view(-1, 1, 1, 1), sigma.to(x).view(-1, 1, 1, 1)

    def grid(
        self, steps: int, spacing: Spacing | None = None, *, start: float | None = None, end: float | None = None
    ) -> Grid:
        """Return a grid of exactly ``steps`` steps from time ``start``, ``t_max`` by default, to the clean image.

        Without ``end``, the last of the steps is the one to the clean image. ``trailing`` and ``leading`` take steps of
        equal times, ``leading`` down to ``t_min`` and therefore from below ``start``; the others go from ``start`` to
        ``t_min`` (``spaced_times`` has their formulas), and from there to the clean image. With ``end`` these others
        go to that time instead, and no further: ``end=schedule.t_min`` gives the grids of DPM-Solver's authors.
        ``reference`` and ``reference_quad`` are what the original code does (tables only): ``reference`` may take more
        steps, both start below ``t_max`` and end at the noise of t = 0. By default it is the ``usual_spacing``.

        Raises:
            ValueError: the schedule has no such grid.
        """
        spacing = spacing or self.usual_spacing
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if spacing == "reference" or spacing == "reference_quad":
            if start is not None or end is not None:
                raise ValueError(f"start, end: spacing {spacing!r} has its own; take 'linspace'")
            return self.grid_at(self._reference_times(steps, spacing), clean=False)
        if end is not None and spacing in ("trailing", "leading"):
            raise ValueError(f"end: spacing {spacing!r} goes to the clean image; take 'linspace'")
        ends = self.t_max if start is None else start, self.t_min if end is None else end
        if not self.t_max >= ends[0] > ends[1] >= self.t_min:
            raise ValueError(f"start, end must fall, between {self.t_max} and {self.t_min}, not {ends[0]}, {ends[1]}")
        nodes = steps if end is None else steps + 1
        return self.grid_at(spaced_times(self, nodes, spacing, *ends), clean=end is None)

    def refine(self, grid: Grid, parts: Sequence[int]) -> Grid:
        """Return ``grid`` with its step i divided into ``parts[i]`` steps, equal in log SNR.

        Raises:
            ValueError: there are not as many parts as steps, or a divided step has an end of infinite log SNR.
        """
        if len(parts) != grid.steps or min(parts) < 1:
            raise ValueError(f"parts must be one number above 0 for each of {grid.steps} steps, not {list(parts)}")
        times = []
        for i, (ends, n) in enumerate(zip(grid.log_snr.unfold(0, 2, 1), parts, strict=True)):
            if n > 1 and not ends.isfinite().all():
                raise ValueError(f"parts: step {i} has an end of infinite log SNR and cannot be divided")
            inner = torch.linspace(ends[0].item(), ends[1].item(), n + 1, dtype=torch.float64)[1:-1]
            times += [grid.t[i : i + 1], self.time(inner)]
        clean = bool(grid.sigma[-1] == 0)
        return self.grid_at(torch.cat(times if clean else [*times, grid.t[-1:]]), clean=clean)

    def grid_at(self, t: Float[Tensor, " n"], clean: bool = True) -> Grid:
        """Return the grid with nodes at the times ``t``, followed by the clean one if ``clean``."""
        alpha, sigma = self._marginal(t.double())
        if not clean:
            return Grid(t.double(), alpha, sigma, self.at_log_snr)
        ends = torch.tensor([[self.t_clean], [1.0], [0.0]], dtype=torch.float64, device=t.device)
        times, alpha, sigma = torch.cat([torch.stack([t.double(), alpha, sigma]), ends], dim=1)
        return Grid(times, alpha, sigma, self.at_log_snr)

    def at_log_snr(self, log_snr: Float64[Tensor, " n"]) -> Grid:
        """Return the nodes of these log SNRs, as far as the schedule goes."""
        return self.grid_at(self.time(log_snr), clean=False)

    def _reference_times(self, steps: int, spacing: Spacing) -> Float64[Tensor, " n"]:  # noqa: ARG002
        raise ValueError(f"spacing {spacing!r} needs a schedule with a table; take 'trailing'")


def as_time(t: float | Real[Tensor, "*s"]) -> Float64[Tensor, "*s"]:
    """Return ``t`` as a tensor in float64."""
    return t.double() if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)


def in_type_of(t: float | Real[Tensor, "*s"], value: Float64[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Return ``value`` in the type of the times it belongs to; integers and plain numbers have none to give."""
    return value.to(t.dtype) if isinstance(t, Tensor) and t.is_floating_point() else value
