"""A log's own lines of what a run reached, as people would grep them."""

from __future__ import annotations

import math
from itertools import takewhile

from caffesplit.report.runs import Run, output_name, smaller_is_better

ENDS = ("done", "stopped", "fatal")
"""Events of a run's end."""


def best_lines(run: Run, metric: str | None, count: int) -> tuple[str, ...]:
    """The lines of the output that `runs.output_name` finds in its `count` best tests, of each
    test net, the best last: `grep Test | grep accuracy | sort -nk 11 | tail -3`."""
    output = output_name(run, metric)
    if output is None:
        return ()
    sign = -1 if smaller_is_better(output) else 1
    tested = [
        row for row in run.log.test if output in row.outputs and not math.isnan(row.outputs[output])
    ]
    lines: list[str] = []
    for net in sorted({row.net for row in tested}):
        ordered = sorted(
            (row for row in tested if row.net == net),
            key=lambda row: (sign * row.outputs[output], -row.iteration),
        )
        # The first of a test's lines is its head.
        lines += [row.lines[1 + list(row.outputs).index(output)] for row in ordered[-count:]]
    return tuple(lines)


def final_lines(run: Run) -> tuple[str, ...]:
    """The lines of the last test, of each test net, and of the run's end:
    `grep -B 3 "Optimization Done"` without other lines between."""
    tests = run.log.test
    last = [row for row in tests if row.iteration == tests[-1].iteration]
    ends = takewhile(lambda event: event.kind in ENDS, reversed(run.log.events))
    return (
        *(line for row in last for line in row.lines),
        *(event.line for event in reversed(list(ends))),
    )
