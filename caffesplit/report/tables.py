"""Tables as text: aligned for the eye and for grep, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from caffesplit.formats.trainlog import TestRow, TrainRow
from caffesplit.report.runs import Result, Score

Cell: TypeAlias = str | int
"""Text stands at the left of its column, an integer at the right."""

MISSING = "-"


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
    """Net and best value over all tests."""
    rows = tuple((result.net, _value(result.best)) for result in results)
    return Table(("Net", f"Best {_label(metric)}"), rows)


def result_table(results: Sequence[Result], metric: str | None) -> Table:
    """Final value, best value with its iteration, and how much the final one is over the first."""
    label = _label(metric)
    rows = tuple(
        (
            result.net,
            _value(result.final),
            _value(result.best),
            result.best.iteration if result.best else MISSING,
            _difference(result, results[0]),
        )
        for result in results
    )
    return Table(("Net", label, f"Best {label}", "Best at", "Difference"), rows)


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


def _difference(result: Result, first: Result) -> str:
    if result is first or result.final is None or first.final is None:
        return ""
    difference = result.final.value - first.final.value
    return f"{difference:+.4f}" if math.isfinite(difference) else MISSING
