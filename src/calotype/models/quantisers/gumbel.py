"""`GumbelQuantize`: each position of the latents draws a code by its probabilities."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from calotype.models.quantisers.codebook import Codebook, check_codes
from calotype.models.quantisers.quantiser import Quantised
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class GumbelQuantizeConfig(Config):
    """A codebook of ``codes`` vectors; each position of the latents draws one by the Gumbel-softmax (arXiv:1611.01144).

    ``kl_weight`` weighs the divergence of the codes' probabilities from equal ones. Without ``straight_through``
    training mixes codes by their softened probabilities at ``temperature``. ``remap`` lists the codes in use, in the
    order of their new numbers; the others are never taken.
    """

    kind: Literal["gumbel"] = "gumbel"
    codes: int
    kl_weight: float = 5e-4
    temperature: float = 1.0
    straight_through: bool = True
    remap: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_codes(self.codes, self.remap)
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")

    def build(self, channels: int, code_channels: int | None = None) -> "GumbelQuantize":
        """Make the quantiser from latents of ``channels`` to codes of ``code_channels`` (the same unless given)."""
        return GumbelQuantize(self, channels, code_channels or channels)


class GumbelQuantize(Codebook):
    """Codes drawn with probabilities ``softmax(proj(z))``; state keys ``proj.*`` and ``embed.weight``.

    With Gumbel noise g, ``argmax(proj(z) + g)`` is such a draw; its gradient is that of
    ``softmax((proj(z) + g) / temperature)`` (arXiv:1611.01144, Section 2.2). ``temperature`` may be set at any time.
    The loss is ``kl_weight sum q log(q codes)`` over the probabilities q without noise, averaged over positions.
    """

    def __init__(self, config: GumbelQuantizeConfig, channels: int, code_channels: int) -> None:
        super().__init__(config.remap)
        self.config = config
        self.temperature = config.temperature
        self.proj = nn.Conv2d(channels, config.codes, 1)
        self.embed = nn.Embedding(config.codes, code_channels)

    @property
    def codebook(self) -> Float[Tensor, "n c"]:
        """All codes, by their numbers before any remapping."""
        return self.embed.weight

    def logits(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n h w"]:
        """Return the unnormalised log-probabilities of the codes in use, in at least float32."""
        logits = self.proj(z)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits if self.used is None else logits[:, self.used]

    def forward(
        self,
        z: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b n h w"] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Quantised:
        """Quantise latents with Gumbel ``noise``, one value per code in use and position.

        Without ``noise`` it is drawn in training (see ``gumbel_noise``); in evaluation the likeliest code is taken.
        """
        logits = self.logits(z)
        if noise is None and self.training:
            noise = gumbel_noise(logits.shape, generator=generator, device=logits.device)
        perturbed = logits if noise is None else logits + noise.to(logits)
        soft = (perturbed / self.temperature).softmax(dim=1)
        indices = soft.argmax(dim=1)
        shares = soft
        if self.config.straight_through or not self.training:
            hard = torch.zeros_like(soft).scatter_(1, indices[:, None], 1.0)
            shares = hard + (soft - soft.detach())
        codes = self.codebook if self.used is None else self.codebook[self.used]
        q = logits.softmax(dim=1)
        loss = self.config.kl_weight * (q * torch.log(q * self.config.codes + 1e-10)).sum(dim=1).mean()
        return Quantised(einsum(shares, codes, "b n h w, n c -> b c h w"), loss, indices)


def gumbel_noise(
    shape: tuple[int, ...], *, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Float[Tensor, "..."]:
    """Draw standard Gumbel values, ``-log`` of exponential ones, on the device of ``generator`` where one is given."""
    drawn = torch.empty(shape, device=device if generator is None else generator.device)
    return -drawn.exponential_(generator=generator).log().to(device or drawn.device)
