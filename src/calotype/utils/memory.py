"""Keep freed memory in the process: a training step frees and asks for the same large blocks again and again."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Tell glibc not to hand large blocks back to the system; return whether it could be told (Linux with glibc).

    Without it every large tensor costs fresh pages, which the kernel has to map and clear, at every training step.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_THRESHOLD: 2**30, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26}
    told = [mallopt(option, value) == 1 for option, value in settings.items()]
    return all(told)
