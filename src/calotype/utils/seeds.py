"""Random numbers as a pure function of a key: nothing depends on what was drawn before."""

import hashlib
from random import Random

import torch


def seed_of(*key: int | str) -> int:
    """Hash a key such as ``(seed, "noise", 1280)`` to a 63-bit seed; equal keys give equal seeds on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator that depends on ``key`` alone."""
    return torch.Generator().manual_seed(seed_of(*key))


def python_random(source: torch.Generator) -> Random:
    """Return a generator of Python's, for choices and shuffles, that depends on the next draw of ``source`` alone."""
    return Random(int(torch.randint(2**63 - 1, (), generator=source)))
