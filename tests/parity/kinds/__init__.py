"""Kinds of golden files: each is a function from a file's inputs to its outputs, made with our own classes.

A module in this folder registers one with ``@kind("prefix")``; a file belongs to the longest prefix that its name
starts with.
"""

import importlib
import pkgutil
from collections.abc import Callable

from golden_file import Golden
from torch import Tensor

Run = Callable[[Golden], dict[str, Tensor]]

KINDS: dict[str, Run] = {}


def kind(prefix: str) -> Callable[[Run], Run]:
    """Register the decorated function for the files whose names start with ``prefix``."""

    def register(run: Run) -> Run:
        assert prefix not in KINDS, prefix
        KINDS[prefix] = run
        return run

    return register


def kind_of(name: str) -> str:
    """Return the kind of the file ``name``; ``LookupError`` where no prefix fits."""
    prefixes = [prefix for prefix in KINDS if name.startswith(prefix)]
    if not prefixes:
        raise LookupError(f"no kind of golden file is registered for {name}")
    return max(prefixes, key=len)


def run_of(name: str) -> Run:
    """Return the function for the file ``name``."""
    return KINDS[kind_of(name)]


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
