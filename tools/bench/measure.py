"""Timing in turn, so that a machine that drifts or is shared drifts for all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each work in seconds, over rounds that do all of them in turn.

    One round that is not counted goes first.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for counted in [False] + [True] * rounds:
        for name, work in works.items():
            elapsed = seconds(work)
            if counted:
                taken[name].append(elapsed)
    return {name: statistics.median(times) for name, times in taken.items()}
