"""Which logs the arguments of `log` and `plot` mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from caffesplit.errors import Location, LogError
from caffesplit.formats import trainlog
from caffesplit.formats.trainlog import Growing, TrainLog
from caffesplit.report.runs import Run, named_runs

T = TypeVar("T")

PATIENCE = 3600.0
"""Seconds after which a log that has not grown counts as ended, whatever its last line."""

argument = click.argument("logs", nargs=-1, required=True, metavar="EXP|LOG...")


def find_logs(arguments: Iterable[str]) -> list[Path]:
    """Logs in the order of the arguments, each once: a log file, `-` for standard input, a
    solver or a folder for its experiment's logs, a folder of experiments for the logs of all.

    Raises:
        LogError: if a file or folder is not there, or a folder holds no log.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        path = Path(argument)
        if argument != "-" and not path.exists():
            raise LogError(
                "no such file", "a log, or an experiment's folder or solver", at=Location(argument)
            )
        if path.suffix == ".prototxt":
            path = path.parent
        found.update(dict.fromkeys(_logs_below(path) if path.is_dir() else [path]))
    return list(found)


def read_logs(paths: Sequence[Path], training: bool = True) -> tuple[Run, ...]:
    """The runs of these logs. Of several, those that hold no row, of crashed runs for one, are
    left out with a word on stderr. `training` as in `trainlog.read`.

    Raises:
        LogError: if none can be read.
    """
    return named_runs(_read(paths, lambda path: trainlog.read(path, training)))


def follow_logs(paths: Sequence[Path], wait: bool) -> list[Growing]:
    """The logs as far as they are written by now. Of several, those that cannot be read, or hold
    no row, are left out as by `read_logs`; but with `wait`, a row may still come.

    Raises:
        LogError: if none is left.
    """

    def follow(path: Path) -> Growing:
        growing = Growing(path)
        growing.read_on()
        if not growing.log.has_rows:
            if not wait or not may_grow(growing.log):
                raise growing.without_rows()
            click.echo(f"{path}: waiting for the first row", err=True)
        return growing

    return _read(paths, follow)


def may_grow(log: TrainLog) -> bool:
    """Whether someone may still write to the log's file."""
    path = Path(log.path)
    if log.finished or not path.is_file():
        return False
    return time.time() - path.stat().st_mtime < PATIENCE


def _read(paths: Sequence[Path], read: Callable[[Path], T]) -> list[T]:
    found = []
    refused = []
    for path in paths:
        try:
            found.append(read(path))
        except LogError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    for each in refused:
        click.echo(f"{each.at}: {each.found}; left out", err=True)
    return found


def _logs_below(folder: Path) -> list[Path]:
    from caffesplit.study.trees import logs_in, natural

    logs = logs_in(folder)
    if not logs:
        subfolders = (entry for entry in folder.rglob("*") if entry.is_dir())
        logs = [log for entry in sorted(subfolders, key=natural) for log in logs_in(entry)]
    if not logs:
        raise LogError(
            "no log in this folder or below it",
            "train.log or other *.log files",
            "Give the file that holds what `caffe train` printed.",
            Location(str(folder)),
        )
    return logs
