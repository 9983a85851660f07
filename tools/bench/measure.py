"""Timing things in turns, and the rows of a result."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """A table: what was measured, the figure, how it compares, what is wanted."""

    title: str
    rows: tuple[tuple[str, str, str, str], ...]

    def markdown(self) -> str:
        """The table in Markdown, with columns that line up."""
        rows = [("", "measured", "ratio", "wanted"), *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            "| " + " | ".join(map(str.ljust, row, widths)) + " |"
            for row in [rows[0], tuple("-" * width for width in widths), *rows[1:]]
        ]
        return "\n".join([f"## {self.title}", "", *lines])


def in_turns(subjects: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each subject over rounds in which each runs once.

    A first round that is not counted warms what can be warm.
    """
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            start = time.perf_counter()
            subject()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}
