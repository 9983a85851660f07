"""Tables as text: aligned for the eye and for grep, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from caffesplit.formats.trainlog import TestRow, TrainRow
from caffesplit.report.runs import Result, Run, Score

Cell: TypeAlias = str | int
"""Text stands at the left of its column, an integer at the right."""

MISSING = "-"

BASELINE = re.compile(r"(^|/)baseline( #\d+)?$")
"""The name of a net that others are derived from."""


@dataclass(frozen=True)
class Table:
    """A header and rows of as many cells each."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def plain(self) -> str:
        """Columns two spaces apart."""
        columns = list(zip(self.header, *self.rows, strict=True))
        widths = [max(len(str(cell)) for cell in column) for column in columns]
        numeric = [any(isinstance(cell, int) for cell in column) for column in columns]
        lines = [
            "  ".join(
                str(cell).rjust(width) if right else str(cell).ljust(width)
                for cell, width, right in zip(row, widths, numeric, strict=True)
            )
            for row in (self.header, *self.rows)
        ]
        return "".join(line.rstrip() + "\n" for line in lines)

    def markdown(self) -> str:
        """`Net | Acc` over `--- | ---`."""
        rows = (self.header, ("---",) * len(self.header), *self.rows)
        return "".join(
            " | ".join(str(cell).replace("|", r"\|") for cell in row) + "\n" for row in rows
        )


def final_table(results: Sequence[Result], metric: str | None) -> Table:
    """Net and final value, as in the table of a finished chain of splits."""
    rows = tuple((result.net, _value(result.final)) for result in results)
    return Table(("Net", _label(metric)), rows)


def best_table(results: Sequence[Result], metric: str | None) -> Table:
    """Net and best value over all tests; a row for each, with its iteration, of several."""
    label = f"Best {_label(metric)}"
    if all(len(result.bests) <= 1 for result in results):
        return Table(("Net", label), tuple((r.net, _value(r.best)) for r in results))
    rows = tuple(
        (result.net, _value(score), score.iteration if score else MISSING)
        for result in results
        for score in result.bests or (None,)
    )
    return Table(("Net", label, "Best at"), rows)


def result_table(results: Sequence[Result], metric: str | None) -> Table:
    """Final value, best value with its iteration, and how much the final one is over the
    baseline's: that of the net of this name beside it, or else the first net's."""
    label = _label(metric)
    rows = tuple(
        (
            result.net,
            _value(result.final),
            _value(result.best),
            result.best.iteration if result.best else MISSING,
            _difference(result, _baseline(result, results)),
        )
        for result in results
    )
    return Table(("Net", label, f"Best {label}", "Best at", "Difference"), rows)


def event_table(runs: Sequence[Run]) -> Table:
    """What happened in each run, when; of several runs with their names."""
    rows = tuple(
        (
            *((run.name,) if len(runs) > 1 else ()),
            MISSING if event.iteration is None else event.iteration,
            MISSING if math.isnan(event.seconds) else f"{event.seconds:.1f}",
            event.kind,
            event.value,
        )
        for run in runs
        for event in run.events
    )
    net = ("Net",) if len(runs) > 1 else ()
    return Table((*net, "Iteration", "Seconds", "Event", "What"), rows)


def parse_log_csv(rows: Sequence[TrainRow] | Sequence[TestRow]) -> str:
    """Rows with the columns of Caffe's tools/extra/parse_log.py: NumIters, Seconds,
    LearningRate and the outputs. Where several test nets were tested, NetNum follows.
    """
    rows_with_outputs = [row for row in rows if row.outputs]
    outputs = dict.fromkeys(name for row in rows_with_outputs for name in row.outputs)
    nets = {row.net for row in rows if isinstance(row, TestRow)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["NumIters", "Seconds", "LearningRate", *(["NetNum"] if len(nets) > 1 else []), *outputs]
    )
    for row in rows_with_outputs:
        net = [row.net] if isinstance(row, TestRow) and len(nets) > 1 else []
        values = [row.outputs.get(name, "") for name in outputs]
        writer.writerow([row.iteration, row.seconds, row.lr, *net, *values])
    return text.getvalue()


def _label(metric: str | None) -> str:
    return metric if metric and metric.lower() != "accuracy" else "Acc"


def _value(score: Score | None) -> str:
    """With the six digits that Caffe prints."""
    return MISSING if score is None else f"{score.value:.6g}"


def _baseline(result: Result, results: Sequence[Result]) -> Result | None:
    """What the result is compared with; None where there are several to choose from."""
    named = {each.net: each for each in results if BASELINE.search(each.net)}
    folder = result.net[: result.net.rfind("/") + 1]
    net = "".join(result.net.partition(" #")[1:])
    for name in (f"{folder}baseline{net}", f"baseline{net}", *(named if len(named) == 1 else ())):
        if name in named:
            return named[name]
    return None if named else results[0]


def _difference(result: Result, base: Result | None) -> str:
    if base is None:
        return MISSING
    if result is base or result.final is None or base.final is None:
        return ""
    difference = result.final.value - base.final.value
    return f"{difference:+.4f}" if math.isfinite(difference) else MISSING
