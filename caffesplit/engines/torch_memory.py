"""How a process on the CPU holds memory between iterations."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of mallopt (malloc.h of the GNU C library)."""
MOST = 2**31 - 1
"""The largest value that mallopt takes."""


def keep_freed_memory() -> None:
    """Keep what is freed for the next iteration, instead of handing it back to the system.

    A net asks for the same large blocks again in every iteration. malloc by default maps each
    anew, which the system fills with zeros page by page: a third of cifar10_quick's time.
    Without a GNU C library, nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, MOST)
