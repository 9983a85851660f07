"""Runs beside each other: their names, and what each reached."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffesplit.errors import LogError
from caffesplit.formats.accuracy import accuracy_output
from caffesplit.formats.trainlog import Event, TrainLog, read

SMALLER_IS_BETTER = ("loss", "error")
"""Outputs with one of these in their name are best where they are smallest."""


STDIN = Path("stdin")
"""Stands for the log that comes from standard input."""


@dataclass(frozen=True)
class Run:
    """A log and the name its net has in tables and legends."""

    name: str
    log: TrainLog

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, in the log's order; the end, which solver and tool announce, once."""
        events = self.log.events
        return tuple(
            event
            for event, before in zip(events, (None, *events), strict=False)
            if before is None or event.kind != "done" or before.kind != "done"
        )


@dataclass(frozen=True)
class Score:
    """A test output's value and the iteration of that test."""

    iteration: int
    value: float


@dataclass(frozen=True)
class Result:
    """What one run reached on one test net, and in which output; None if it has no such test."""

    net: str
    final: Score | None
    best: Score | None
    metric: str | None
    bests: tuple[Score, ...] = ()
    """The best and those next to it, as many as were asked for."""


def read_runs(paths: Sequence[Path | str]) -> tuple[Run, ...]:
    """Read logs, and name each by its experiment.

    Raises:
        LogError: if a log cannot be read or holds no row.
    """
    return named_runs([read(path) for path in paths])


def named_runs(logs: Sequence[TrainLog]) -> tuple[Run, ...]:
    """Name logs that have been read, each by its experiment."""
    names = run_names([log.path for log in logs])
    return tuple(Run(name, log) for name, log in zip(names, logs, strict=True))


def run_names(paths: Iterable[Path | str]) -> tuple[str, ...]:
    """Name logs by the folders they lie in, with as much more of the path as tells them apart.

    Logs that share a folder have their own name too, and that alone if it is the only folder.
    So has a log that is alone and not called train.log.
    """
    logs = [STDIN if str(path) == "-" else Path(path).absolute() for path in paths]
    folders = [log.parent for log in logs]
    own_name = len(logs) == 1 and logs[0].name not in ("train.log", "train.log.gz")
    named = [
        log if own_name or log == STDIN or folders.count(log.parent) > 1 else log.parent
        for log in logs
    ]
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


def output_name(run: Run, metric: str | None = None) -> str | None:
    """The run's test output that `metric` names in whatever case; its accuracy for None."""
    names = metric_outputs([run])
    if metric is None:
        return accuracy_output(names)
    return next((name for name in names if name.lower() == metric.lower()), None)


def smaller_is_better(name: str) -> bool:
    """Whether a test output of this name is best where it is smallest."""
    return any(word in name.lower() for word in SMALLER_IS_BETTER)


def scores(run: Run, metric: str | None = None) -> dict[int, tuple[Score, ...]]:
    """The values of a test output, as `output_name` finds it, by test net."""
    name = output_name(run, metric)
    found: dict[int, list[Score]] = {}
    for row in run.log.test:
        if name is not None and name in row.outputs:
            found.setdefault(row.net, []).append(Score(row.iteration, row.outputs[name]))
    return {net: tuple(found[net]) for net in sorted(found)}


def results(runs: Sequence[Run], metric: str | None = None, bests: int = 1) -> tuple[Result, ...]:
    """The final and the best values of a test output, as `output_name` finds it, per run and
    test net.

    Raises:
        LogError: if no run has this output.
    """
    table: list[Result] = []
    for run in runs:
        output = output_name(run, metric)
        if output is None:
            table.append(Result(run.name, None, None, None))
            continue
        by_net = scores(run, output)
        for net, series in by_net.items():
            name = run.name if len(by_net) == 1 else f"{run.name} #{net}"
            best = _best(series, output, bests)
            first = best[0] if best else None
            table.append(Result(name, series[-1], first, output, best))
    if all(result.final is None for result in table):
        names = metric_outputs(runs)
        raise LogError(
            f'no test output is named "{metric or "accuracy"}"',
            f"one of {', '.join(names)}" if names else "a log with tests",
            "Choose another with --metric." if names else "Give the solver a test_interval.",
        )
    return tuple(table)


def _best(series: Iterable[Score], output: str, count: int) -> tuple[Score, ...]:
    """The best first; of equal ones the earlier."""
    numbers = [score for score in series if not math.isnan(score.value)]
    sign = 1 if smaller_is_better(output) else -1
    return tuple(sorted(numbers, key=lambda score: sign * score.value)[:count])
