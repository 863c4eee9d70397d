"""AdamW, its learning rate as a function of samples seen, and the check that stands before every update."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calotype.training.learning_rate import LearningRateSchedule
from calotype.utils import distributed
from calotype.utils.config import Config

LONGEST_WARMUP = 0.1
"""The most of a run that its warm-up may take."""


class NonFiniteError(ArithmeticError):
    """A loss or gradient is NaN or infinite. Raised before any weight, average or optimiser state has changed."""


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig(Config):
    """AdamW with warm-up over ``warmup_samples``, a constant rate, then a linear decay to 0 from ``decay_from`` on.

    The warm-up is over after a tenth of the run at the latest. ``decay_from`` is a share of the run (1: never). A
    ``schedule`` in samples, which knows nothing of the run's length, takes the place of both. ``clip`` is the largest
    gradient norm (0: off).
    """

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    warmup_samples: int = 6_400
    decay_from: float = 0.6
    clip: float = 1.0
    schedule: LearningRateSchedule | None = None

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")
        if not 0 <= self.decay_from <= 1:
            raise ValueError(f"decay_from must be between 0 and 1, not {self.decay_from}")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """Make the (fused) optimiser for the parameters that are trained."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        return torch.optim.AdamW(
            trained, lr=self.learning_rate, betas=self.betas, weight_decay=self.weight_decay, fused=True
        )

    def rate(self, seen: int, total: int) -> float:
        """Return the learning rate of the step that starts after ``seen`` of ``total`` samples."""
        if self.schedule is not None:
            return self.learning_rate * self.schedule.multiplier(seen)
        warmup = min(self.warmup_samples, LONGEST_WARMUP * total)
        warm = min(1.0, (seen + 1) / warmup) if warmup else 1.0
        left = (total - seen) / max(total * (1 - self.decay_from), 1)
        return self.learning_rate * warm * min(1.0, max(left, 0.0))


def step_share(optimiser: torch.optim.Optimizer, learning_rate: float) -> float:
    """Return how far a step moves a weight, as a share of the weights' root mean square: ``learning_rate / rms``.

    A step of Adam is about as long as its rate, whatever the gradient (Section 2.1, arXiv:1412.6980). Vectors do not
    count: scales of normalisations are 1 and biases 0. Nor does an optimiser without a matrix that is not zero.
    """
    matrices = [p.detach() for group in optimiser.param_groups for p in group["params"] if p.ndim > 1]
    square = sum(float(matrix.float().square().sum()) for matrix in matrices)
    rms = math.sqrt(square / max(1, sum(matrix.numel() for matrix in matrices)))
    return learning_rate / rms if rms else 0.0


def check_finite(loss: Tensor, name: str) -> None:
    """Raise ``NonFiniteError`` unless every element of ``loss`` is finite, on every process alike."""
    if distributed.any_rank(not bool(torch.isfinite(loss).all())):
        raise NonFiniteError(f"{name} is not finite")


def check_gradients(optimiser: torch.optim.Optimizer, clip: float, name: str) -> Tensor:
    """Return the gradient norm over the optimiser's parameters, after clipping to ``clip`` (0: off).

    Raises:
        NonFiniteError: the norm is not finite; all gradients are dropped.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if not bool(torch.isfinite(norm)):
        optimiser.zero_grad(set_to_none=True)
        raise NonFiniteError(f"the gradient of {name} is not finite")
    if clip:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return norm
