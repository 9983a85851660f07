"""`caffesplit plot`: runs as a picture, live while they train."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffesplit.cli import logs as log_files
from caffesplit.cli import options
from caffesplit.errors import CaffesplitError, Location, LogError, OutputError
from caffesplit.formats import trainlog
from caffesplit.report.runs import Run, named_runs, results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from caffesplit.cli.screens import Screen
    from caffesplit.report.series import Scale


@dataclass(frozen=True)
class View:
    """How runs are drawn, with what `plot` takes where nothing is said."""

    avg: int = 1
    metric: str | None = None
    scale: Scale = "iteration"
    epoch_size: int | None = None
    log: bool | None = None

    def figure(self, runs: Sequence[Run], figure: Figure | None = None) -> Figure:
        """Draw the curves, in a new figure or in the one given.

        Raises:
            CaffesplitError: if what they are to be drawn over cannot be told.
        """
        from caffesplit.report import figures

        epochs = []
        if self.scale == "epoch":
            epochs = [_epoch(run.log.path, self.epoch_size) for run in runs]
        return figures.curves(runs, self.avg, self.metric, self.scale, epochs, self.log, figure)


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
@options.metric
@click.option(
    "--x",
    "scale",
    type=click.Choice(["iteration", "time", "epoch"]),
    default="iteration",
    show_default=True,
    help="Draw over iterations, time of training, or epochs.",
)
@click.option(
    "--epoch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Training images of an epoch [those of the experiment's training set].",
)
@click.option(
    "--log/--linear",
    "log",
    default=None,
    help="Scale of the loss [logarithmic if it spans more than a decade].",
)
@click.option("--no-refresh", is_flag=True, help="Draw once, even if the logs are growing.")
@click.option("-o", "--output", metavar="FILE", help="Draw once, into a png, svg or pdf file.")
@options.force
def command(
    logs: tuple[str, ...], no_refresh: bool, output: str | None, force: bool, **view: Any
) -> None:
    """Draw the loss, accuracy and learning rate of runs, and go on while they train.

    The picture comes in a window or, where there is no display, as LOG.png beside the first
    log, in place of an earlier one. It is drawn again whenever a log has grown, until all runs
    have ended. Folders are understood as by `caffesplit log`; a log from standard input (-)
    needs -o.
    """
    chosen = View(**view)
    if chosen.epoch_size is not None and chosen.scale != "epoch":
        raise click.UsageError("--epoch-size is for --x epoch.")
    if output is None:
        show(logs, chosen, refresh=not no_refresh)
        return
    from caffesplit.report import figures

    runs = log_files.read_logs(log_files.find_logs(logs))
    _check_metric(chosen.metric, runs)
    figures.save(chosen.figure(runs), output, force)
    click.echo(output)


def show(logs: Sequence[str], view: View, refresh: bool = True) -> None:
    """Draw in a window, in a notebook's cell, or into LOG.png beside the first log.

    With `refresh`, wait for rows, and draw again whenever a log has grown, until all runs have
    ended.

    Raises:
        OutputError: if a log is standard input, which can be read only once.
        LogError: if no log has anything to draw, or ever will.
    """
    from caffesplit.cli.screens import find_screen

    if "-" in logs:
        raise OutputError(
            "a log from standard input has no folder for its picture",
            "a file for it",
            "Give one: -o FILE.",
        )
    paths = log_files.find_logs(logs)
    followed = log_files.follow_logs(paths, wait=refresh)
    screen = find_screen(paths[0])
    try:
        _draw_on(followed, view, screen, refresh)
    except KeyboardInterrupt:
        return
    screen.hold()


def _draw_on(
    followed: Sequence[trainlog.Growing], view: View, screen: Screen, refresh: bool
) -> None:
    """Draw the logs and, with `refresh`, again whenever one has grown, while one may."""
    grown = True
    while True:
        if grown:
            logs = [each.log for each in followed]
            runs = named_runs([log for log in logs if log.has_rows])
        more = refresh and any(map(log_files.may_grow, logs))
        if grown and runs:
            _check_metric(view.metric, runs, more)
            screen.draw(functools.partial(view.figure, runs))
        if not runs and not more:
            raise followed[0].without_rows()
        if not (more and screen.wait()):
            return
        grown = True in [_grown(each) for each in followed]


def _grown(log: trainlog.Growing) -> bool:
    try:
        return log.read_on()
    except LogError:  # One that takes its place is still to come.
        return False


@functools.cache
def _epoch(log: str, images: int | None) -> float:
    """The iterations of an epoch in the experiment that a log lies in."""
    from caffesplit.experiment import load
    from caffesplit.study.epochs import iterations

    try:
        experiment = load(Path(log).parent)
    except CaffesplitError as error:
        raise LogError(
            f"no experiment around this log tells its batch size ({error.found})",
            "a solver and its net in the log's folder",
            "Draw it over iterations: --x iteration.",
            Location(log),
        ) from error
    return iterations(experiment, images)


def _check_metric(metric: str | None, runs: Sequence[Run], more: bool = False) -> None:
    """A test output that was asked for must be there, once there are tests or no `more` rows."""
    if metric is not None and (not more or any(run.log.test for run in runs)):
        results(runs, metric)
