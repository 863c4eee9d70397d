"""Ways from one noise, or latent, to another."""

import torch
from jaxtyping import Float
from torch import Tensor


def slerp(a: Float[Tensor, "b ..."], b: Float[Tensor, "b ..."], weight: float) -> Float[Tensor, "b ..."]:
    """Return what lies ``weight`` of the way from ``a`` (0) to ``b`` (1), row by row, on the arc between them.

    With theta the angle between two rows, their directions are mixed with sin((1 - w) theta) / sin theta and
    sin(w theta) / sin theta, and their norms linearly: between noises lies noise, where a straight line would leave it
    too faint. Ends are exact. Rows of one direction, or of opposite ones, have no such arc: for them the line is taken.
    """
    first, second = (each.double().flatten(1) for each in (a, b))
    norms = first.norm(dim=1), second.norm(dim=1)
    norm = torch.lerp(*norms, weight)
    theta = ((first * second).sum(1) / (norms[0] * norms[1])).clamp(-1, 1).acos()
    arc = theta.sin() > 1e-6
    of_a = torch.where(arc, ((1 - weight) * theta).sin() / theta.sin() * norm / norms[0], 1 - weight)
    of_b = torch.where(arc, (weight * theta).sin() / theta.sin() * norm / norms[1], weight)
    return (of_a[:, None] * first + of_b[:, None] * second).view_as(a).to(a.dtype)


def interpolate(points: Float[Tensor, "k ..."], frames: int) -> Float[Tensor, "frames ..."]:
    """Return ``frames`` points, equally spaced on the way through all ``points``, the first and the last included.

        model.sample(noise=interpolate(model.noise([3, 7]), 9))      # from the image of seed 3 to that of seed 7
        model.sample(noise=interpolate(invert(model, images), 9))    # from one picture to another
        model.decode(interpolate(model.encode(images), 9))           # a plain fade, between latents

    Raises:
        ValueError: there are fewer than two points or frames.
    """
    if len(points) < 2 or frames < 2:
        raise ValueError(f"a way has at least 2 points and 2 frames, not {len(points)} and {frames}")
    ways = []
    for frame in range(frames):
        i, rest = divmod(frame * (len(points) - 1), frames - 1)
        ways.append(slerp(points[i : i + 1], points[i + 1 : i + 2], rest / (frames - 1)) if rest else points[i : i + 1])
    return torch.cat(ways)
