"""`caffesplit plot`: loss and accuracy of runs as a picture, live while they train."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from caffesplit.cli import logs as log_files
from caffesplit.cli import options
from caffesplit.errors import OutputError
from caffesplit.report.runs import Run, results

PATIENCE = 3600.0
"""Seconds after which a log that has not grown counts as ended, whatever its last line."""


@click.command("plot", short_help="Draw loss and accuracy of runs, live while they train.")
@log_files.argument
@click.option(
    "--avg",
    default=1,
    type=click.IntRange(min=1),
    show_default=True,
    metavar="N",
    help="Draw the training loss in means of N rows (of N + 1 if N is even).",
)
@click.option(
    "--metric",
    metavar="NAME",
    help='Test output to draw [accuracy, or the first with "acc" in its name].',
)
@click.option("--no-refresh", is_flag=True, help="Draw once, even if the logs are growing.")
@click.option("-o", "--output", metavar="FILE", help="Draw once, into a png, svg or pdf file.")
@options.force
def command(
    logs: tuple[str, ...],
    avg: int,
    metric: str | None,
    no_refresh: bool,
    output: str | None,
    force: bool,
) -> None:
    """Draw the loss and accuracy of runs, and go on drawing while they train.

    The picture comes in a window or, where there is no display, as LOG.png beside the first
    log, in place of an earlier one. Folders are understood as by `caffesplit log`; a log from
    standard input (-) needs -o.
    """
    if output is None:
        show(logs, avg, metric, refresh=not no_refresh)
        return
    from caffesplit.report import figures

    runs = log_files.read_logs(log_files.find_logs(logs))
    _check_metric(metric, runs)
    figures.save(figures.curves(runs, avg, metric), output, force)
    click.echo(output)


def show(logs: Sequence[str], avg: int, metric: str | None = None, refresh: bool = True) -> None:
    """Draw in a window, in a notebook's cell, or into LOG.png beside the first log.

    With `refresh`, draw again whenever a log has grown, until all runs have ended.

    Raises:
        OutputError: if a log is standard input, which can be read only once.
    """
    from caffesplit.cli.screens import find_screen

    if "-" in logs:
        raise OutputError(
            "a log from standard input has no folder for its picture",
            "a file for it",
            "Give one: -o FILE.",
        )
    paths = log_files.find_logs(logs)
    sizes = _sizes(paths)
    runs = log_files.read_logs(paths)
    _check_metric(metric, runs)
    screen = find_screen(paths[0])
    screen.draw(runs, avg, metric)
    try:
        while refresh and any(map(_may_grow, runs)) and screen.wait():
            if _sizes(paths) != sizes:
                sizes = _sizes(paths)
                runs = log_files.read_logs(paths, warn=False)
                screen.draw(runs, avg, metric)
    except KeyboardInterrupt:
        return
    screen.hold()


def _check_metric(metric: str | None, runs: Sequence[Run]) -> None:
    """A test output that was asked for must be there."""
    if metric is not None:
        results(runs, metric)


def _sizes(paths: Iterable[Path]) -> list[int]:
    return [path.stat().st_size for path in paths if path.is_file()]


def _may_grow(run: Run) -> bool:
    path = Path(run.log.path)
    if run.log.finished or not path.is_file():
        return False
    return time.time() - path.stat().st_mtime < PATIENCE
