"""The scalar losses of a discriminator and the schedule of its weight."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def hinge_d_loss(
    logits_real: Float[Tensor, "b ..."],
    logits_fake: Float[Tensor, "b ..."],
    weights: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    """Hinge loss, ``1/2 [mean relu(1 - real) + mean relu(1 + fake)]`` (Eq. 14, arXiv:1705.02894).

    ``weights`` makes both means weighted means over examples.
    """
    real, fake = F.relu(1.0 - logits_real), F.relu(1.0 + logits_fake)
    if weights is None:
        return 0.5 * (real.mean() + fake.mean())
    per_example = real.flatten(1).mean(dim=1) + fake.flatten(1).mean(dim=1)
    return 0.5 * (weights * per_example).sum() / weights.sum()


def vanilla_d_loss(logits_real: Float[Tensor, "b ..."], logits_fake: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Cross-entropy, ``1/2 [mean softplus(-real) + mean softplus(fake)]`` (Eq. 1, arXiv:1406.2661)."""
    return 0.5 * (F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean())


def adopt_weight(weight: float, samples_seen: int, threshold: int, value: float = 0.0) -> float:
    """Return ``value`` before ``threshold`` and ``weight`` from there on."""
    return value if samples_seen < threshold else weight
