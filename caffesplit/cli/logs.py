"""Which logs the arguments of `log` and `plot` mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from caffesplit.errors import Location, LogError
from caffesplit.formats import trainlog
from caffesplit.report.runs import Run, named_runs
from caffesplit.study.trees import logs_in, natural

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


def read_logs(paths: Sequence[Path], warn: bool = True, training: bool = True) -> tuple[Run, ...]:
    """The runs of these logs. Of several, those that hold no row, of crashed runs for one, are
    left out; `warn` says so on stderr. `training` as in `trainlog.read`.

    Raises:
        LogError: if none can be read.
    """
    logs = []
    refused = []
    for path in paths:
        try:
            logs.append(trainlog.read(path, training))
        except LogError as error:
            refused.append(error)
    if not logs:
        raise refused[0]
    for each in refused if warn else ():
        click.echo(f"{each.at}: {each.found}; left out", err=True)
    return named_runs(logs)


def _logs_below(folder: Path) -> list[Path]:
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
