"""Keeping a codebook in use while it is trained."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calotype.training.draws import Draws
from calotype.utils import distributed
from calotype.utils.seeds import generator


class CodeRestarts(nn.Module):
    """Lets codes that no latent has taken for ``every`` samples start again, each at a random latent of the batch.

    Without it most of a codebook is never found: a code far from all latents is nobody's nearest, and has no gradient.
    Section 3.1 of arXiv:2005.00341. ``taken`` says which codes were since the last look; it belongs to the training
    state.
    """

    taken: Tensor

    def __init__(self, codes: int, every: int) -> None:
        super().__init__()
        self.every = every
        self.register_buffer("taken", torch.zeros(codes, dtype=torch.bool))

    def note(self, taken: Bool[Tensor, " n"]) -> None:
        """Remember the codes that a step's latents have taken, those of all processes."""
        self.taken |= taken

    def due(self, draws: Draws) -> bool:
        """Return whether it is time to look: after the first step, and whenever an interval ends."""
        return draws.seen == 0 or (draws.seen + draws.count) // self.every > draws.seen // self.every

    @torch.no_grad()
    def restart(self, codebook: Float[Tensor, "n c"], latents: Float[Tensor, "b c h w"], draws: Draws) -> Tensor:
        """Move idle codes to latents of the global batch, of which ``latents`` are this process's; return how many.

        What has been taken is forgotten: the next look is about what comes after this one.
        """
        idle = (~self.taken).nonzero()[:, 0]
        points = rearrange(latents, "b c h w -> (b h w) c")
        per_image = latents.shape[2] * latents.shape[3]
        drawn = torch.randint(
            draws.count * per_image, (len(idle),), generator=generator(draws.seed, "restart codes", draws.seen)
        )
        here = drawn.to(points.device) - range(draws.count)[draws.rows].start * per_image
        mine = (here >= 0) & (here < len(points))
        chosen = points[here.clamp(0, len(points) - 1)] * mine[:, None]
        codebook[idle] = (distributed.average(chosen) * distributed.world_size()).to(codebook)
        self.taken.zero_()
        return torch.tensor(float(len(idle)))
