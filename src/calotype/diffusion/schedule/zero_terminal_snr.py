"""A table that ends in pure noise."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from calotype.diffusion.schedule.table import Betas, Cosine, Linear, Outside, ScaledLinear, Sqrt, Table


@dataclass(frozen=True, kw_only=True)
class ZeroTerminalSNR(Table):
    """A table's alpha, moved and scaled so that it begins as before and ends at 0 (Algorithm 1, arXiv:2305.08891).

        alpha'(t) = alpha_0 (alpha(t) - alpha_T) / (alpha_0 - alpha_T)

    It holds between entries too, where log alpha' is therefore not linear: at the end it is minus infinity. Networks
    are to predict v, or flow: from pure noise, eps says nothing.
    """

    of: Annotated[Linear | ScaledLinear | Sqrt | Cosine | Betas, Field(discriminator="kind")]
    timesteps: int = field(init=False)
    kind: Literal["zero_terminal_snr"] = "zero_terminal_snr"

    def __post_init__(self) -> None:
        object.__setattr__(self, "timesteps", self.of.timesteps)

    def betas(self) -> Float64[Tensor, " timesteps"]:
        """Return the variances of the single noising steps; the last is 1."""
        alpha_bar = self.alpha(torch.arange(self.timesteps, dtype=torch.float64, device="cpu")) ** 2
        return 1 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])

    def log_alpha(self, t: Float[Tensor, "*s"], outside: Outside = "hold") -> Float[Tensor, "*s"]:
        """Return the logarithm of alpha."""
        first, last = self._ends(t.device)
        left = (self.of.log_alpha(t.double(), outside) - last).clamp(min=0)
        return (first + (left.expm1() / (first - last).expm1()).log()).to(t.dtype)

    def _time_of(self, log_alpha: Float64[Tensor, "*s"]) -> Float64[Tensor, "*s"]:
        first, last = self._ends(log_alpha.device)
        left = (log_alpha - first).exp() * (first - last).expm1()
        return self.of._time_of(last + left.log1p())

    def _ends(self, device: torch.device) -> Float64[Tensor, "2"]:
        """The table's own log alpha at its first and last entry."""
        return self.of.log_alpha(torch.tensor([0.0, self.t_max], dtype=torch.float64, device=device))
