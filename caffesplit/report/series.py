"""What of runs is drawn as curves, and over what: iterations, hours or epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from caffesplit.errors import Location, LogError
from caffesplit.formats.accuracy import accuracy_output
from caffesplit.formats.trainlog import TestRow, TrainLog, TrainRow
from caffesplit.report.points import Array, Points, drawable
from caffesplit.report.runs import Run

Scale: TypeAlias = Literal["iteration", "time", "epoch"]
Rows: TypeAlias = Sequence[TrainRow | TestRow]

COLUMNS = 2000
"""Pixels that curves are thinned to; more than a panel has."""

UNITS = (("days", 86400.0, 3.0), ("hours", 3600.0, 2.0), ("minutes", 60.0, 2.0), ("seconds", 1, 0))
"""Name, seconds, and of how many on a time axis is in that unit."""


@dataclass(frozen=True)
class Line:
    """What has one colour and one label: an element of a test net's output, over a run."""

    label: str
    run: int
    """The run's index."""
    net: int
    """The test net's index."""
    output: str | None
    """None where the net has no such output, or the run no tests."""


def lines(runs: Sequence[Run], metric: str | None = None) -> tuple[Line, ...]:
    """One for each run and test net and, in a vector-valued output, element.

    The output is each net's own accuracy, or the one named `metric`, in whatever case.
    """
    found = []
    for index, run in enumerate(runs):
        nets: dict[int, dict[str, None]] = {}
        for row in run.log.test:
            nets.setdefault(row.net, {}).update(dict.fromkeys(row.outputs))
        for net in sorted(nets) or [0]:
            name = f"{run.name} #{net}" if len(nets) > 1 else run.name
            outputs = _elements(list(nets.get(net, ())), metric)
            for element, output in enumerate(outputs or [None]):
                label = f"{name} [{element}]" if len(outputs) > 1 else name
                found.append(Line(label, index, net, output))
    return tuple(found)


def _elements(names: Sequence[str], metric: str | None) -> list[str]:
    """The outputs that are the accuracy, or the one asked for: a log has `name`, `name#1` …"""
    if metric is None:
        name = accuracy_output(names)
    else:
        name = next((name for name in names if name.lower() == metric.lower()), None)
    if name is None:
        return []
    return [name, *(other for other in names if other.rpartition("#")[0] == name)]


@dataclass(frozen=True, eq=False)
class Horizontal:
    """The axis that runs are drawn over: its label, and where rows of the run at an index lie."""

    label: str
    place: Callable[[int, Rows], Array]

    def points(self, run: int, rows: Rows, values: Sequence[float]) -> Points:
        """The values of a run's rows; rows that have no place are left out."""
        x = self.place(run, rows)
        known = np.isfinite(x)
        return Points(x[known], drawable(values)[known])

    def losses(self, run: int, rows: Rows) -> Points:
        return self.points(run, rows, [row.loss for row in rows])

    def rates(self, run: int, rows: Rows) -> Points:
        """The learning rate, where a row has one."""
        having = [row for row in rows if not math.isnan(row.lr)]
        return self.points(run, having, [row.lr for row in having])

    def outputs(self, run: int, rows: Rows, name: str) -> Points:
        having = [row for row in rows if name in row.outputs]
        return self.points(run, having, [row.outputs[name] for row in having])


@dataclass(frozen=True, eq=False)
class Series:
    """The points of runs, thinned, by the index of the line whose look they have: a run's first
    for its training, a test net's first for its loss. What has nothing to draw is left out.
    """

    training: Mapping[int, Points]
    tests: Mapping[int, Points]
    outputs: Mapping[int, Points]
    rates: Mapping[int, Points]


def series(runs: Sequence[Run], drawn: Sequence[Line], axis: Horizontal, avg: int = 1) -> Series:
    """What there is to draw of `drawn`, the lines of runs. `avg` smooths the training loss."""
    training, tests, outputs, rates = {}, {}, {}, {}
    seen: set[int | tuple[int, int]] = set()
    for index, line in enumerate(drawn):
        train = runs[line.run].log.train
        test = [row for row in runs[line.run].log.test if row.net == line.net]
        if line.run not in seen:
            training[index] = axis.losses(line.run, train).smoothed(avg)
            rates[index] = axis.rates(line.run, train)
        if (line.run, line.net) not in seen:
            tests[index] = axis.losses(line.run, test)
        if line.output is not None:
            outputs[index] = axis.outputs(line.run, test, line.output)
        seen |= {line.run, (line.run, line.net)}
    return Series(_thinned(training), _thinned(tests), _thinned(outputs), _thinned(rates))


def _thinned(curves: Mapping[int, Points]) -> dict[int, Points]:
    return {
        index: points.thinned(COLUMNS)
        for index, points in curves.items()
        if not np.isnan(points.y).all()
    }


def horizontal(
    runs: Sequence[Run], scale: Scale = "iteration", epochs: Sequence[float] = ()
) -> Horizontal:
    """The axis of a scale. `epochs` are the iterations of each run's epoch, for that scale.

    Time is that of training: pauses before a run was resumed are left out.

    Raises:
        LogError: if time is asked for and a log has no time stamps.
    """
    if scale == "iteration":
        return Horizontal("iteration", lambda _, rows: _iterations(rows))
    if scale == "epoch":
        return Horizontal("epoch", lambda run, rows: _iterations(rows) / epochs[run])
    for run in runs:
        if not _stamps(run.log).size:
            raise LogError(
                "no line has a time stamp",
                "glog's, as in I1121 05:00:00.123456",
                "Draw this log over iterations: --x iteration.",
                Location(run.log.path),
            )
    clocks = [_clock(run.log) for run in runs]
    longest = max(clock(_stamps(run.log)).max() for clock, run in zip(clocks, runs, strict=True))
    unit, size = next((unit, size) for unit, size, most in UNITS if longest >= most * size)

    def time(run: int, rows: Rows) -> Array:
        return clocks[run](np.array([row.seconds for row in rows], dtype=np.float64)) / size

    return Horizontal(f"training time, {unit}", time)


def _iterations(rows: Rows) -> Array:
    return np.array([row.iteration for row in rows], dtype=np.float64)


def _stamps(log: TrainLog) -> Array:
    """The seconds of the rows that have a time stamp."""
    stamps = np.array([row.seconds for rows in (log.train, log.test) for row in rows])
    return stamps[np.isfinite(stamps)]


def _clock(log: TrainLog) -> Callable[[Array], Array]:
    """From time stamps to seconds of training. It stands still from the last row that is kept
    until a start after it: nothing of a resumed run came of the time between.
    """
    starts = np.unique([event.seconds for event in log.events if event.kind == "start"])
    starts = starts[np.isfinite(starts)]
    marks = np.union1d(_stamps(log), starts)
    before = marks[np.maximum(np.searchsorted(marks, starts) - 1, 0)]
    lost = np.concatenate(([0.0], np.cumsum(starts - before)))
    return lambda stamps: stamps - lost[np.searchsorted(starts, stamps, side="right")] - marks[0]
