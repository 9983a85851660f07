"""Curves for the page: few enough points for a browser, every peak kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffesplit.formats.trainlog import TestRow, TrainLog, TrainRow
from caffesplit.report.page_values import Subject
from caffesplit.report.points import Points, drawable

MAX_COLUMNS = 600
"""Of pixels that one curve is thinned to; a column keeps up to five points."""

MIN_COLUMNS = 10

PAGE_COLUMNS = 40_000
"""Of all curves of a page together: at most some 3 MB."""

RATE = "learning rate"


@dataclass(frozen=True)
class Curve:
    """A run's values over its iterations; `net` is the test net's index."""

    run: int
    phase: str
    net: int
    rows: Sequence[TrainRow | TestRow]
    values: Sequence[float]

    def as_json(self, columns: int) -> dict[str, Any]:
        x = np.array([row.iteration for row in self.rows], np.float64)
        points = Points(x, drawable(self.values)).thinned(columns)
        return {
            "run": self.run,
            "phase": self.phase,
            "net": self.net,
            "x": [int(iteration) for iteration in points.x],
            "y": [_plain(value) for value in points.y.tolist()],
        }


def curve_data(subjects: Sequence[Subject], first: str | None) -> dict[str, Any]:
    """The runs' curves as plain JSON values.

    `runs` are names. `loss` and each of `outputs` (the test outputs, `first` before the others,
    then the learning rate) hold curves: run (its index), phase, net, x, y (null where there is
    nothing to draw). Curves without any value are left out.
    """
    logs = [(index, subject.log) for index, subject in enumerate(subjects) if subject.log]
    losses = [curve for index, log in logs for curve in _losses(index, log)]
    outputs: dict[str, list[Curve]] = {first: []} if first is not None else {}
    for index, log in logs:
        for name, curve in _outputs(index, log):
            outputs.setdefault(name, []).append(curve)
    for index, log in logs:
        rates = [row.lr for row in log.train]
        outputs.setdefault(RATE, []).append(Curve(index, "train", 0, log.train, rates))
    total = len(losses) + sum(map(len, outputs.values()))
    columns = max(MIN_COLUMNS, min(MAX_COLUMNS, PAGE_COLUMNS // max(1, total)))

    def encoded(curves: Sequence[Curve]) -> list[dict[str, Any]]:
        made = (curve.as_json(columns) for curve in curves)
        return [curve for curve in made if any(value is not None for value in curve["y"])]

    panels = [{"name": name, "curves": encoded(curves)} for name, curves in outputs.items()]
    return {
        "runs": [subject.name for subject in subjects],
        "loss": encoded(losses),
        "outputs": [panel for panel in panels if panel["curves"]],
    }


def _losses(run: int, log: TrainLog) -> Iterator[Curve]:
    yield Curve(run, "train", 0, log.train, [row.loss for row in log.train])
    for net, rows in _tests(log):
        yield Curve(run, "test", net, rows, [row.loss for row in rows])


def _outputs(run: int, log: TrainLog) -> Iterator[tuple[str, Curve]]:
    for net, rows in _tests(log):
        for name in dict.fromkeys(name for row in rows for name in row.outputs):
            values = [row.outputs.get(name, math.nan) for row in rows]
            yield name, Curve(run, "test", net, rows, values)


def _tests(log: TrainLog) -> Iterator[tuple[int, list[TestRow]]]:
    """The tests of each test net."""
    for net in sorted({row.net for row in log.test}):
        yield net, [row for row in log.test if row.net == net]


def _plain(value: float) -> float | None:
    """With the six digits that Caffe prints; None for what cannot be drawn."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
