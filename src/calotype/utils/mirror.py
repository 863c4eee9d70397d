"""Images that go on beyond their borders as in a mirror."""

import torch
from jaxtyping import Int
from torch import Tensor


def mirrored(length: int, *, before: int = 0, after: int = 0) -> Int[Tensor, " n"]:
    """Return the indices -before ... length - 1 + after of an axis, reflected at its ends as often as need be.

    The pixel at an end comes once. Unlike torch's ``reflect`` this may go on further than the axis is long.
    """
    index = torch.arange(-before, length + after)
    if length == 1:
        return index * 0
    period = 2 * (length - 1)
    return torch.minimum(index % period, -index % period)
