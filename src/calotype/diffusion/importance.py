"""Importance sampling of times: what is remembered of their losses, and what follows from it."""

import torch
from jaxtyping import Float, Float64, Int, Real
from torch import Tensor, nn

from calotype.diffusion.schedule import NoiseSchedule
from calotype.diffusion.schedule.base import in_type_of
from calotype.diffusion.times import ImportanceTimes


class ImportanceSampler(nn.Module):
    """Draws the times of ``ImportanceTimes``. Its buffers are training state, the same on every process."""

    def __init__(self, config: ImportanceTimes) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("losses", torch.zeros(config.bins, config.history, dtype=torch.float64))
        self.register_buffer("known", torch.zeros(config.bins, dtype=torch.int64))

    def probabilities(self) -> Float64[Tensor, " bins"]:
        """Return how often each part of the schedule is drawn: p of Eq. 18, arXiv:2102.09672."""
        losses, config = self.get_buffer("losses"), self.config
        equal = losses.new_full((config.bins,), 1 / config.bins)
        importance = losses.square().mean(dim=1).sqrt()
        if (self.get_buffer("known") < config.history).any() or importance.sum() == 0:
            return equal
        return torch.lerp(importance / importance.sum(), equal, config.uniform)

    def sample(self, n: int, generator: torch.Generator, schedule: NoiseSchedule) -> Float64[Tensor, " n"]:
        """Draw ``n`` times of the schedule, on the CPU."""
        bins = torch.multinomial(self.probabilities(), n, replacement=True, generator=generator)
        inside = torch.rand(n, generator=generator, dtype=torch.float64)
        return schedule.training_time((bins + inside) / self.config.bins)

    def weights(self, t: Real[Tensor, " b"], schedule: NoiseSchedule) -> Float[Tensor, " b"]:
        """Return the factors that make losses at drawn times count as at uniform ones: 1 / (bins p)."""
        weights = (1 / (self.config.bins * self.probabilities()))[self._bins(t, schedule)]
        return in_type_of(t, weights.to(t.device))

    def record(self, t: Real[Tensor, " n"], losses: Float[Tensor, " n"], schedule: NoiseSchedule) -> None:
        """Remember the losses, before ``weights``, of a global batch; those that are not finite are left out."""
        remembered, known = self.get_buffer("losses"), self.get_buffer("known")
        for row, loss in zip(self._bins(t, schedule).tolist(), losses.tolist(), strict=True):
            remembered[row, known[row] % self.config.history] = loss
            known[row] += 1

    def _bins(self, t: Tensor, schedule: NoiseSchedule) -> Int[Tensor, " b"]:
        position = schedule.training_position(t.detach().double().cpu())
        return (position * self.config.bins).long().clamp(0, self.config.bins - 1)
