"""`caffesplit plot`: loss and accuracy of runs as a picture, live while they train."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from caffesplit.cli import logs as log_files
from caffesplit.cli import options
from caffesplit.report.runs import Run, read_runs, results

PATIENCE = 3600.0
"""Seconds after which a log that has not grown counts as ended, whatever its last line."""


@click.command("plot")
@log_files.argument
@click.option(
    "--avg",
    default=1,
    type=click.IntRange(min=1),
    show_default=True,
    metavar="N",
    help="Draw the training loss in means of N rows.",
)
@click.option("--metric", metavar="NAME", help="Test output to draw [accuracy, if there is one].")
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
    log. Folders are understood as by `caffesplit log`.
    """
    if output is None:
        show(logs, avg, metric, refresh=not no_refresh)
        return
    from caffesplit.report import figures

    runs = read_runs(log_files.find_logs(logs))
    figures.save(figures.curves(runs, avg, _checked(metric, runs)), output, force)
    click.echo(output)


def show(logs: Sequence[str], avg: int, metric: str | None = None, refresh: bool = True) -> None:
    """Draw in a window, in a notebook's cell, or into LOG.png beside the first log.

    With `refresh`, draw again whenever a log has grown, until all runs have ended.
    """
    from caffesplit.cli.screens import find_screen

    paths = log_files.find_logs(logs)
    sizes = _sizes(paths)
    runs = read_runs(paths)
    metric = _checked(metric, runs)
    screen = find_screen(paths[0])
    screen.draw(runs, avg, metric)
    try:
        while refresh and any(map(_may_grow, runs)) and screen.wait():
            if _sizes(paths) != sizes:
                sizes = _sizes(paths)
                runs = read_runs(paths)
                screen.draw(runs, avg, metric)
    except KeyboardInterrupt:
        return
    screen.hold()


def _checked(metric: str | None, runs: Sequence[Run]) -> str:
    """The test output to draw; one that was asked for must be there."""
    if metric is None:
        return "accuracy"
    results(runs, metric)
    return metric


def _sizes(paths: Iterable[Path]) -> list[int]:
    return [path.stat().st_size for path in paths if path.is_file()]


def _may_grow(run: Run) -> bool:
    path = Path(run.log.path)
    if run.log.finished or not path.is_file():
        return False
    return time.time() - path.stat().st_mtime < PATIENCE
