"""`VectorQuantizer2`: each position of the latents takes the nearest code."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from calotype.models.quantisers.codebook import Codebook, check_codes
from calotype.models.quantisers.quantiser import Quantised
from calotype.utils.config import Config

DISTANCES = 2**22


@dataclass(frozen=True, kw_only=True)
class VectorQuantizer2Config(Config):
    """A codebook of ``codes`` vectors; each position of the latents takes the nearest.

    ``beta_on`` says which term of the loss ``beta`` multiplies: the commitment of the latents to their codes, as in
    Eq. 3 of arXiv:1711.00937, or the movement of the codes towards the latents, with which the published models of the
    reference were trained. ``remap`` lists the codes in use, in the order of their new numbers; a code that is not
    among them is reported as a ``"random"`` one of them, as one ``"extra"`` number behind them, or as a given number.
    Numbers come as an ``"image"`` (b, h, w), or ``"flat"``: (b h w,), and (b h w, 1) where they are remapped.
    """

    kind: Literal["vector_quantiser"] = "vector_quantiser"
    codes: int
    beta: float = 0.25
    beta_on: Literal["commitment", "codebook"] = "commitment"
    remap: tuple[int, ...] | None = None
    unknown_index: Literal["random", "extra"] | int = "random"
    index_shape: Literal["image", "flat"] = "image"

    def __post_init__(self) -> None:
        check_codes(self.codes, self.remap)
        if self.beta < 0:
            raise ValueError(f"beta must be at least 0, not {self.beta}")

    def build(self, channels: int) -> "VectorQuantizer2":
        """Make the quantiser for latents of ``channels`` with fresh codes."""
        return VectorQuantizer2(self, channels)


class VectorQuantizer2(Codebook):
    """Nearest codes with the straight-through gradient of arXiv:1711.00937; state key ``embedding.weight``.

    For latents z and their codes e the loss is ``beta mean((z - sg e)^2) + mean((sg z - e)^2)``, or with the factor on
    the second term; sg stops the gradient.
    """

    def __init__(self, config: VectorQuantizer2Config, channels: int) -> None:
        super().__init__(config.remap)
        self.config = config
        self.embedding = nn.Embedding(config.codes, channels)
        nn.init.uniform_(self.embedding.weight, -1 / config.codes, 1 / config.codes)

    @property
    def codebook(self) -> Float[Tensor, "n c"]:
        """All codes, by their numbers before any remapping."""
        return self.embedding.weight

    def forward(
        self,
        z: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b n h w"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Quantised:
        """Quantise latents; ``generator`` draws the numbers of unknown codes, ``noise`` does not matter."""
        del noise
        indices = self.nearest(z)
        codes = rearrange(self.embedding(indices), "b h w c -> b c h w")
        commitment, movement = F.mse_loss(z, codes.detach()), F.mse_loss(codes, z.detach())
        beta = self.config.beta
        loss = beta * commitment + movement if self.config.beta_on == "commitment" else commitment + beta * movement
        return Quantised(z + (codes - z).detach(), loss, self._reported(indices, generator))

    @torch.no_grad()
    def nearest(self, z: Float[Tensor, "b c h w"]) -> Int[Tensor, "b h w"]:
        """Return the number in the codebook of the code nearest to each position; of equals, the first.

        At most about ``DISTANCES`` distances are held at a time, in at least float32.
        """
        codes = self.codebook.to(torch.promote_types(self.codebook.dtype, torch.float32))
        points = rearrange(z, "b c h w -> (b h w) c").to(codes.dtype)
        with torch.autocast(z.device.type, enabled=False):
            squares = codes.square().sum(dim=1)
            parts = points.split(max(1, DISTANCES // len(codes)))
            nearest = [torch.addmm(squares, part, codes.T, alpha=-2).argmin(dim=1) for part in parts]
        return torch.cat(nearest).view(len(z), *z.shape[2:])

    def _reported(self, indices: Tensor, generator: torch.Generator | None) -> Tensor:
        """The numbers as the configuration wants them."""
        flat = self.config.index_shape == "flat"
        if self.used is None:
            return indices.flatten() if flat else indices
        count, unknown_index = len(self.used), self.config.unknown_index
        numbers = torch.full((self.config.codes,), -1, device=indices.device)
        numbers[self.used] = torch.arange(count, device=indices.device)
        known = numbers[indices]
        if unknown_index == "random":
            device = indices.device if generator is None else generator.device
            unknown = torch.randint(count, indices.shape, generator=generator, device=device).to(indices.device)
        else:
            unknown = torch.full_like(indices, count if unknown_index == "extra" else unknown_index)
        reported = torch.where(known < 0, unknown, known)
        return reported.view(-1, 1) if flat else reported
