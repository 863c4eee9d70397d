"""How the vectors of a codebook are found: where they begin, how they follow the latents, when they start again."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calotype.training.draws import Draws
from calotype.training.k_means import cluster_sums, k_means
from calotype.training.optimiser import check_finite
from calotype.utils import distributed
from calotype.utils.config import Config
from calotype.utils.seeds import generator


@dataclass(frozen=True, kw_only=True)
class CodeAverageConfig(Config):
    """Codes as moving averages of the latents that took them: ``decay`` per step, smoothed by ``epsilon``."""

    decay: float = 0.99
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, not {self.decay}")
        if self.epsilon < 0:
            raise ValueError(f"epsilon must not be negative: {self.epsilon}")


@dataclass(frozen=True, kw_only=True)
class CodebookConfig(Config):
    """How the codes of a ``VectorQuantizer2`` are trained; other quantisers need none of it.

    ``initial`` codes are ``"random"``, small and uniform as in the reference, or the ``"k_means"`` of the first batch's
    latents. Codes follow the gradient of the quantiser's loss, or where ``average`` is given are moving averages. Codes
    that stay idle start again every ``restart_every`` samples (0: never).
    """

    initial: Literal["random", "k_means"] = "k_means"
    average: CodeAverageConfig | None = None
    restart_every: int = 500

    def __post_init__(self) -> None:
        if self.restart_every < 0:
            raise ValueError(f"restart_every must not be negative: {self.restart_every}")


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
    def restart(
        self, codebook: Float[Tensor, "n c"], latents: Float[Tensor, "b c h w"], draws: Draws
    ) -> Int[Tensor, " k"]:
        """Move idle codes to latents of the global batch, of which ``latents`` are this process's; return which.

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
        codebook[idle] = _total(chosen).to(codebook)
        self.taken.zero_()
        return idle


class CodeAverages(nn.Module):
    """Codes as moving averages of the latents that took them: Eq. 6 to 8 in Appendix A.1 of arXiv:1711.00937.

    With n_i latents of a step at code i, their sum s_i and ``decay`` d: ``N_i <- d N_i + (1 - d) n_i``,
    ``m_i <- d m_i + (1 - d) s_i``, ``e_i = m_i / N_i``. N is smoothed (Laplace) by ``epsilon``, so that it is never
    zero: ``(N_i + epsilon) / (sum N + codes epsilon) sum N``. A code that starts counts as the average of one latent.
    """

    counts: Tensor
    sums: Tensor

    def __init__(self, config: CodeAverageConfig, codebook: Float[Tensor, "n c"]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("counts", torch.ones_like(codebook[:, 0]))
        self.register_buffer("sums", codebook.detach().clone())

    def start(self, codebook: Float[Tensor, "n c"], which: Int[Tensor, " k"]) -> None:
        """Begin the averages of these codes anew, at their present place."""
        self.counts[which] = 1.0
        self.sums[which] = codebook[which].to(self.sums)

    @torch.no_grad()
    def update(
        self, codebook: Float[Tensor, "n c"], latents: Float[Tensor, "b c h w"], indices: Int[Tensor, "..."]
    ) -> None:
        """Move averages and codes towards the latents of a step, those of all processes."""
        points = rearrange(latents, "b c h w -> (b h w) c").to(self.sums)
        sums, counts = cluster_sums(points, indices.flatten(), len(codebook))
        self.counts.lerp_(_total(counts), 1 - self.config.decay)
        self.sums.lerp_(_total(sums), 1 - self.config.decay)
        total, epsilon = self.counts.sum(), self.config.epsilon
        smoothed = (self.counts + epsilon) / (total + len(codebook) * epsilon) * total
        codebook.copy_(self.sums / smoothed[:, None])


class CodebookKeeper(nn.Module):
    """What happens to the codes of a run beside the gradient; its buffers belong to the training state."""

    begun: Tensor

    def __init__(self, config: CodebookConfig, codebook: Float[Tensor, "n c"]) -> None:
        super().__init__()
        self.config = config
        self.averages = None if config.average is None else CodeAverages(config.average, codebook)
        self.restarts = CodeRestarts(len(codebook), config.restart_every) if config.restart_every else None
        self.register_buffer("begun", torch.tensor(config.initial == "random"))

    @torch.no_grad()
    def begin(self, codebook: Float[Tensor, "n c"], latents: Float[Tensor, "b c h w"], draws: Draws) -> None:
        """Put the codes where the latents of the first global batch are; ``latents`` are this process's.

        Where there are fewer latents than codes, the codes left over stay where they are.
        """
        own = range(draws.count)[draws.rows]
        everyone = latents.new_zeros(draws.count, *latents.shape[1:])
        everyone[own.start : own.stop] = latents
        points = rearrange(_total(everyone), "b c h w -> (b h w) c")
        check_finite(points, "a latent of the first batch")
        means = k_means(points, len(codebook), generator=generator(draws.seed, "k-means", draws.seen))
        codebook[: len(means)] = means.to(codebook)
        if self.averages is not None:
            self.averages.start(codebook, torch.arange(len(codebook)))
        self.begun.fill_(True)

    @torch.no_grad()
    def after_step(
        self,
        codebook: Float[Tensor, "n c"],
        latents: Float[Tensor, "b c h w"],
        indices: Int[Tensor, "..."],
        frequencies: Float[Tensor, " n"],
        draws: Draws,
    ) -> dict[str, Tensor]:
        """Move averaged codes, and idle ones where it is time; return what to log.

        ``frequencies`` are those of the codes among the ``indices`` of all processes.
        """
        if self.averages is not None:
            self.averages.update(codebook, latents, indices)
        if self.restarts is None:
            return {}
        self.restarts.note(frequencies > 0)
        if not self.restarts.due(draws):
            return {}
        moved = self.restarts.restart(codebook, latents, draws)
        if self.averages is not None:
            self.averages.start(codebook, moved)
        return {"codes_restarted": torch.tensor(float(len(moved)))}


def _total(tensor: Tensor) -> Tensor:
    """Return the sum of ``tensor`` over all processes."""
    return distributed.average(tensor) * distributed.world_size()
