"""What an autoencoder's latents are like: their statistics by channel, and how the codes of a codebook are used."""

import math
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from calotype.losses.codebook_usage import perplexity
from calotype.models.distributions import DiagonalGaussianDistribution, Posterior

DEAD_SIGNAL, DEAD_SPREAD = 0.01, 0.01
GAUSSIAN_PROTOCOL = (
    "Raw latents (not normalised): moments of the posterior's mode over images and positions, in float64. A channel is "
    "dead where its mode's variance is under 1 % of that of its samples (active units, arXiv:1509.00519, relative to "
    "the channel's own scale). KL from the standard normal, in nats, mean over images."
)
DIRAC_PROTOCOL = (
    "Raw latents (not normalised, not quantised): moments over images and positions, in float64. A channel is dead "
    "where its standard deviation is under 1 % of the largest."
)
CODES_PROTOCOL = (
    "Codes of all positions of all images. Perplexity is exp(entropy) of their frequencies: so many codes, used "
    "evenly, would say as much. No more codes can occur than there are positions."
)


class LatentStatistics:
    """Moments of latents by channel, collected batch by batch in float64."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.n = self.elements = 0
        self.origin = self.sums = self.products = self.noise = torch.zeros(())
        self.low = self.high = torch.zeros(())
        self.nats = 0.0
        self.gaussian = False

    def add(self, posterior: Posterior) -> None:
        """Take in the posteriors of a batch of images of one size."""
        z = posterior.mode().detach().cpu().double()
        points = rearrange(z, "b c h w -> (b h w) c")
        low, high = points.amin(0), points.amax(0)
        noise = posterior.var.detach().cpu().double().sum((0, 2, 3))
        if not self.n:
            self.shape = tuple(z.shape[1:])
            self.sums, self.noise = torch.zeros_like(low), torch.zeros_like(low)
            self.products = low.new_zeros(len(low), len(low))
            self.low, self.high = low, high
            self.origin = points[0]  # sums about a value that occurs: nothing cancels, and what is constant stays so
            self.gaussian = isinstance(posterior, DiagonalGaussianDistribution) and not posterior.deterministic
        self.n += len(z)
        self.elements += len(points)
        centred = points - self.origin
        self.sums += centred.sum(0)
        self.products += centred.T @ centred
        self.noise += noise
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self.nats += float(posterior.kl().detach().cpu().double().sum())

    def summary(self) -> dict[str, Any]:
        """Return the statistics as plain data.

        ``channels`` holds mean, standard deviation, least and largest value of each and whether it is ``dead``;
        ``correlation`` the largest and the mean absolute value between two channels that vary, and the matrix (None at
        channels that do not). Gaussian posteriors also have ``posterior_std`` by channel and ``kl``, in nats for each
        number of the latents and for the whole of an image.
        """
        if not self.n:
            raise ValueError("there are no latents to measure")
        mean = self.sums / self.elements
        covariance = self.products / self.elements - mean[:, None] * mean
        variance, noise = covariance.diagonal().clamp(min=0), self.noise / self.elements
        std = variance.sqrt()
        dead = variance <= DEAD_SIGNAL * (variance + noise) if self.gaussian else std <= DEAD_SPREAD * std.max()
        columns = {"mean": self.origin + mean, "std": std, "min": self.low, "max": self.high, "dead": dead}
        if self.gaussian:
            columns["posterior_std"] = noise.sqrt()
        found: dict[str, Any] = {
            "shape": list(self.shape),
            "n": self.n,
            "channels": [
                {name: values[index].item() for name, values in columns.items()} for index in range(len(mean))
            ],
            "dead_share": float(dead.double().mean()),
            "correlation": _correlation(covariance),
        }
        if self.gaussian:
            found["kl"] = {"per_number": self.nats / self.n / math.prod(self.shape), "per_image": self.nats / self.n}
        return found | {"protocol": GAUSSIAN_PROTOCOL if self.gaussian else DIRAC_PROTOCOL}


class CodeUse:
    """How often each code occurs, collected batch by batch; codes are counted as they come, however many there are."""

    def __init__(self, codes: int) -> None:
        self.codes = codes
        self.numbers = self.counts = torch.zeros(0, dtype=torch.long)

    def add(self, indices: Int[Tensor, "..."]) -> None:
        """Take in the numbers of codes."""
        numbers, counts = indices.flatten().cpu().unique(return_counts=True)
        self.numbers, where = torch.cat([self.numbers, numbers]).unique(return_inverse=True)
        self.counts = torch.zeros_like(self.numbers).index_add_(0, where, torch.cat([self.counts, counts]))

    def summary(self) -> dict[str, Any]:
        """Return ``codes``, how many were ``used``, the ``perplexity`` and its ``bits`` per position, as plain data."""
        positions = int(self.counts.sum())
        if not positions:
            raise ValueError("there are no codes to measure")
        evenness, used = perplexity(self.counts.double() / positions)
        return {
            "codes": self.codes,
            "used": int(used),
            "perplexity": float(evenness),
            "bits": math.log2(float(evenness)),
            "n": positions,
            "protocol": CODES_PROTOCOL,
        }


def _correlation(covariance: Float[Tensor, "c c"]) -> dict[str, Any]:
    std = covariance.diagonal().clamp(min=0).sqrt()
    varies = std > 0
    matrix = torch.where(varies & varies[:, None], covariance / (std * std[:, None]), torch.nan).clamp(-1, 1)
    between = matrix[varies][:, varies].abs()
    pairs = between[~torch.eye(len(between), dtype=torch.bool)]
    return {
        "largest": float(pairs.max()) if len(pairs) else None,
        "mean": float(pairs.mean()) if len(pairs) else None,
        "matrix": [[None if math.isnan(value) else value for value in row] for row in matrix.tolist()],
    }
