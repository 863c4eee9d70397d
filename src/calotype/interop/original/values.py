"""What a checkpoint's pickle is made of besides Python's own containers and literals."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from calotype.interop.original.names import STORAGES, Name

MOST_DIMENSIONS = 16


class Stub:
    """What stands for an object of an unknown class."""


@dataclass(frozen=True)
class StorageRef:
    """``count`` numbers that the file keeps under ``key``."""

    dtype: torch.dtype
    key: str
    count: int


@dataclass(frozen=True)
class TensorRef:
    """A tensor that lies within its storage; ``offset`` and ``stride`` count elements."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def make(callee: Name | Stub, arguments: tuple[Any, ...]) -> Any:
    """Return what stands for ``callee(*arguments)``.

    Raises:
        ValueError: a tensor that does not lie within its storage.
        TypeError: the wrong number of arguments.
    """
    maker = _MAKERS.get(str(callee)) if isinstance(callee, Name) else None
    return maker(*arguments) if maker else Stub()


def storage_of(identifier: Any) -> StorageRef:
    """Return the storage that ``("storage", class, key, device, count, ...)`` identifies.

    Raises:
        ValueError: it identifies none, or one of an unknown type.
    """
    word, kind, key, _, count = identifier[:5]
    if word != "storage" or not isinstance(kind, Name) or not isinstance(key, str) or type(count) is not int:
        raise ValueError("its pickle refers to something that is no storage")
    if kind.module not in ("torch", "torch.cuda") or kind.name not in STORAGES:
        raise ValueError(f"it stores numbers as {str(kind)[:80]}, which is not supported")
    return StorageRef(STORAGES[kind.name], key, count)


def key_of(value: Any) -> Any:
    """Return a dictionary's key; hashing tuples of tuples of tuples ... could take for ever."""
    if isinstance(value, tuple) and any(isinstance(item, tuple) for item in value):
        raise ValueError("its pickle has a dictionary with nested keys")
    return value


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    return {key_of(key): value for key, value in pairs}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    if not isinstance(storage, StorageRef) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("its pickle rebuilds a tensor from something else")
    if not all(type(number) is int and 0 <= number < 2**48 for number in (offset, *size, *stride)):
        raise ValueError("it holds a tensor whose shape is not made of natural numbers")
    if len(size) != len(stride) or len(size) > MOST_DIMENSIONS:
        raise ValueError("it holds a tensor whose sizes and strides do not fit together")
    elements = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if elements > storage.count or (elements and last >= storage.count):
        raise ValueError(f"it holds a tensor of shape {list(size)} in a storage of {storage.count} numbers")
    return TensorRef(storage, offset, size, stride)


_MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
}
