"""How hard each time is, learned along with the network."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calotype.diffusion.schedule.table import Table
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class LogVarianceConfig(Config):
    """A log-variance for every t of a table, ``init`` before training."""

    init: float = 0.0

    def build(self, schedule: Table) -> "LogVariance":
        """Make the parameters for the table of ``schedule``."""
        return LogVariance(schedule.timesteps, self.init)


class LogVariance(nn.Module):
    """One log-variance per time: ``error / exp(logvar_t) + logvar_t`` is least where exp(logvar_t) is the mean error.

    The only key of the state dict is ``logvar``, as in the reference's checkpoints.
    """

    def __init__(self, timesteps: int, init: float = 0.0) -> None:
        super().__init__()
        self.logvar = nn.Parameter(torch.full((timesteps,), init))

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the log-variances at the table's indices ``t``."""
        return self.logvar[t.long()]
