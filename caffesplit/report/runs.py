"""Runs beside each other: their names, and what each reached."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffesplit.errors import LogError
from caffesplit.formats.trainlog import TestRow, TrainLog, read

SMALLER_IS_BETTER = ("loss", "error")
"""Outputs with one of these in their name are best where they are smallest."""


@dataclass(frozen=True)
class Run:
    """A log and the name its net has in tables and legends."""

    name: str
    log: TrainLog


@dataclass(frozen=True)
class Score:
    """A test output's value and the iteration of that test."""

    iteration: int
    value: float


@dataclass(frozen=True)
class Result:
    """What one run reached on one test net; both are None for a run that has no such test."""

    net: str
    final: Score | None
    best: Score | None


def read_runs(paths: Sequence[Path | str]) -> tuple[Run, ...]:
    """Read logs, and name each by its experiment.

    Raises:
        LogError: if a log cannot be read or holds no row.
    """
    names = run_names(paths)
    return tuple(Run(name, read(path)) for name, path in zip(names, paths, strict=True))


def run_names(paths: Iterable[Path | str]) -> tuple[str, ...]:
    """Name logs by the folders they lie in, with as much more of the path as tells them apart.

    Logs that share a folder have their own name too, and that alone if it is the only folder.
    """
    logs = [Path("stdin") if str(path) == "-" else Path(path).absolute() for path in paths]
    folders = [log.parent for log in logs]
    named = [log if folders.count(log.parent) > 1 else log.parent for log in logs]
    return tuple(
        _shortest_end(path, named, 2 if path in logs and len(set(folders)) > 1 else 1)
        for path in named
    )


def _shortest_end(path: Path, paths: Iterable[Path], length: int) -> str:
    """The end of `path`, of `length` parts or more, that is the end of no other of `paths`."""
    others = [other.parts for other in paths if other != path]
    while length < len(path.parts) and path.parts[-length:] in (
        parts[-length:] for parts in others
    ):
        length += 1
    return "/".join(path.parts[-length:]).removesuffix(".gz").removesuffix(".log")


def metric_outputs(runs: Iterable[Run]) -> tuple[str, ...]:
    """The names of all test outputs, in order of appearance."""
    return tuple(
        dict.fromkeys(name for run in runs for row in run.log.test for name in row.outputs)
    )


def scores(run: Run, metric: str) -> dict[int, tuple[Score, ...]]:
    """A test output's values, by test net; `metric` in whatever case."""
    found: dict[int, list[Score]] = {}
    for row in run.log.test:
        value = _output(row, metric)
        if value is not None:
            found.setdefault(row.net, []).append(Score(row.iteration, value))
    return {net: tuple(found[net]) for net in sorted(found)}


def results(runs: Sequence[Run], metric: str = "accuracy") -> tuple[Result, ...]:
    """The final and the best value of a test output, per run and test net.

    Raises:
        LogError: if no run has this output.
    """
    table: list[Result] = []
    for run in runs:
        by_net = scores(run, metric)
        if not by_net:
            table.append(Result(run.name, None, None))
        for net, series in by_net.items():
            name = run.name if len(by_net) == 1 else f"{run.name} #{net}"
            table.append(Result(name, series[-1], _best(series, metric)))
    if all(result.final is None for result in table):
        names = metric_outputs(runs)
        raise LogError(
            f'no test output is named "{metric}"',
            f"one of {', '.join(names)}" if names else "a log with tests",
            "Choose another with --metric." if names else "Give the solver a test_interval.",
        )
    return tuple(table)


def _output(row: TestRow, metric: str) -> float | None:
    for name, value in row.outputs.items():
        if name.lower() == metric.lower():
            return value
    return None


def _best(series: Iterable[Score], metric: str) -> Score | None:
    numbers = [score for score in series if not math.isnan(score.value)]
    if any(word in metric.lower() for word in SMALLER_IS_BETTER):
        return min(numbers, key=lambda score: score.value, default=None)
    return max(numbers, key=lambda score: score.value, default=None)
