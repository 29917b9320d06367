"""Freed memory stays with the process, for a moment: arrays of megabytes are made and dropped at every step of training.

glibc gives blocks of that size back to the system when they are freed, and the system zeroes fresh pages when they come
again: 210 page faults a step, a third of the time of RTRL with 64 units. Two settings of its allocator keep them.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # numbers of the settings in malloc.h
KEPT, LARGE = 2**28, 2**25  # bytes: what may stay at the top of the heap, and the largest block that comes from it


@lru_cache(maxsize=1)
def steady_heap() -> bool:
    """Keep up to 256 MiB of freed memory in this process; whether the allocator took it (only glibc does)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGE)) and bool(mallopt(TRIM_THRESHOLD, KEPT))
