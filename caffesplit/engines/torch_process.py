"""How a process computes on the CPU: what memory it holds, and how its threads wait."""

from __future__ import annotations

import ctypes
import os

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


SPINS = {"GOMP_SPINCOUNT": "2000"}
"""Of the GNU OpenMP library, which torch computes with: turns of a loop."""
WAITING = ("OMP_WAIT_POLICY", *SPINS)
"""Variables with which a user chooses by himself."""


def wait_briefly() -> None:
    """Let threads that wait for the next layer look out for it a few microseconds, then sleep.

    It counts before torch is imported, and where the user has chosen nothing. By default they look
    out for milliseconds: no faster where the machine has nothing else to do, and two to five times
    as slow where another process needs a core.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ.update(SPINS)
