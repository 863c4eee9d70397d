"""`FSQ`: finite scalar quantisation, codes on a fixed grid."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from calotype.models.quantisers.quantiser import Quantised, Quantiser
from calotype.utils.config import Config

EPSILON = 1e-3
"""How far ``bound`` stays within the outermost levels."""


@dataclass(frozen=True, kw_only=True)
class FSQConfig(Config):
    """A grid of ``levels`` values per channel of the latents: nothing to learn, and no code that could fall idle.

    arXiv:2309.15505, Section 4.1: (8, 6, 5) are about 2^8 codes, (8, 5, 5, 5) 2^10, (7, 5, 5, 5, 5) 2^12,
    (8, 8, 8, 6, 5) 2^14, (8, 8, 8, 5, 5, 5) 2^16. Two levels would put zero, where training begins, so far into one of
    them that no gradient leads to the other.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3:
            raise ValueError(f"levels must be one number or more, each at least 3, not {self.levels}")
        if self.codes >= 2**63:
            raise ValueError(f"levels make {self.codes} codes: their numbers must fit into 63 bits")

    @property
    def codes(self) -> int:
        """How many codes there are."""
        return math.prod(self.levels)

    def check_channels(self, channels: int) -> None:
        """Raise ``ValueError`` unless latents of ``channels`` have a number of levels each."""
        if channels != len(self.levels):
            raise ValueError(
                f"latent_channels must be the number of levels, one for each channel: {channels} is not "
                f"{len(self.levels)}, that of levels {self.levels}"
            )

    def build(self, channels: int) -> "FSQ":
        """Make the quantiser for latents of ``channels``, of which there must be as many as levels."""
        self.check_channels(channels)
        return FSQ(self)


class FSQ(Quantiser):
    """Each channel takes the nearest of its L levels ``i / (L // 2)``, i = -(L // 2) .. L - 1 - L // 2.

    Rounding passes gradients straight through, and there is no loss (arXiv:2309.15505, Section 3 and Appendix A.1).
    The number of a code counts its levels up from the lowest, those of the first channel fastest. The state dict is
    empty.
    """

    levels: Tensor
    basis: Tensor
    half_width: Tensor

    def __init__(self, config: FSQConfig) -> None:
        super().__init__()
        self.config = config
        levels = torch.tensor(config.levels)
        basis = [math.prod(config.levels[:channel]) for channel in range(len(config.levels))]
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", torch.tensor(basis), persistent=False)
        self.register_buffer("half_width", (levels // 2).float(), persistent=False)

    @property
    def codes(self) -> int:
        """How many codes there are."""
        return self.config.codes

    def bound(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Squash what an encoder says to the range of the levels, within (-1, 1), zero to zero.

        ``(tanh(z + shift) r - offset) / (L // 2)`` with ``r = (L - 1) (1 - EPSILON) / 2``, and for even L, whose levels
        are not symmetric, ``offset = 1/2`` and ``shift = artanh(offset / r)``.
        """
        levels = self.levels.to(z)[:, None, None]
        reach, offset = (levels - 1) * (1 - EPSILON) / 2, 0.5 * (levels % 2 == 0)
        shift = torch.atanh(offset / reach)
        return (torch.tanh(z + shift) * reach - offset) / self.half_width[:, None, None]

    def forward(
        self,
        z: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b n h w"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Quantised:
        """Round bounded latents to levels; beyond the outermost level they take that. Nothing is drawn."""
        del noise, generator
        levels, half = self.levels[:, None, None], self.half_width[:, None, None]
        with torch.no_grad():
            steps = (z * half).round().to(torch.long) + levels // 2
            steps = torch.minimum(steps.clamp(min=0), levels - 1)
            indices = (steps * self.basis[:, None, None]).sum(dim=1)
            change = (steps - levels // 2) / half - z
        return Quantised(z + change.to(z), z.new_zeros(()), indices)

    def look_up(self, indices: Int[Tensor, " n"]) -> Float[Tensor, "n c"]:
        """Return the codes that have these numbers."""
        steps = rearrange(indices, "n -> n 1") // self.basis % self.levels
        return (steps - self.levels // 2) / self.half_width
