"""Values that are arrays of numbers: one per image, stacked into a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotype.utils.errors import UserError


def as_tensor(value: Any) -> Tensor | None:
    """Return a tensor, array or nested list of numbers as a tensor on the CPU, None where it is none of these."""
    if not isinstance(value, Tensor | np.ndarray | Sequence) or isinstance(value, str | bytes):
        return None
    try:
        return torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        return None


def stack(values: Sequence[Any], fits: Callable[[Any], Tensor | None], *, missing: float, wanted: str) -> Tensor | None:
    """Stack what ``fits`` makes of each value; None becomes a tensor of ``missing``. Return None if all are None.

    Raises:
        UserError: a value that does not fit (it is not ``wanted``), or values of several shapes or types.
    """
    tensors: list[Tensor | None] = []
    for value in values:
        tensor = None if value is None else fits(value)
        if value is not None and tensor is None:
            shape = getattr(value, "shape", None)
            what = type(value).__name__ if shape is None else f"{value.dtype} of shape {tuple(shape)}"
            raise UserError(f"{wanted}, not {what}")
        tensors.append(tensor)
    present = [tensor for tensor in tensors if tensor is not None]
    if not present:
        return None
    if len({(tensor.shape, tensor.dtype) for tensor in present}) > 1:
        raise UserError(f"{wanted}, and all of one shape in a batch, not {sorted({tuple(t.shape) for t in present})}")
    return torch.stack([torch.full_like(present[0], missing) if tensor is None else tensor for tensor in tensors])
