"""A run's progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import click

from caffesplit.engines.watch import accuracy
from caffesplit.formats.trainlog import Event, Record, TestRow

LINE_EVERY = 10.0
"""Seconds between lines where stderr is no terminal."""


@contextmanager
def training(name: str, max_iter: int, engine: str = "") -> Iterator[Callable[[Record], None]]:
    """Show how the run `name` gets on, up to `max_iter`; what is yielded takes its records.

    `engine` is what trains, as a person would call it.
    """
    show = partial(_bar, engine) if sys.stderr.isatty() else _lines
    with show(name, max_iter) as update:
        status = _Status()

        def observe(record: Record) -> None:
            if status.take(record):
                # A terminal that was closed must not end the training.
                with suppress(OSError):
                    update(status)

        yield observe


class _Status:
    """What a line of progress says."""

    def __init__(self) -> None:
        self.iteration = 0
        self.loss: float | None = None
        self.accuracy: float | None = None

    def take(self, record: Record) -> bool:
        """Note a record; whether it changed anything."""
        if isinstance(record, Event):
            # Of a run that displays nothing, snapshots are all that is heard.
            if record.kind != "snapshot" or record.iteration is None:
                return False
            self.iteration = record.iteration
            return True
        self.iteration = record.iteration
        if isinstance(record, TestRow):
            self.accuracy = accuracy(record, self.accuracy)
        else:
            self.loss = record.loss
        return True

    def __str__(self) -> str:
        loss = "" if self.loss is None else f"loss {self.loss:<7.4g}"
        return loss if self.accuracy is None else f"{loss} accuracy {self.accuracy:.4f}"


Update = Callable[[_Status], None]


@contextmanager
def _bar(engine: str, name: str, max_iter: int) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        Remaining(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=max_iter, status=f"starting {engine}")

        def update(status: _Status) -> None:
            progress.update(task, completed=status.iteration, status=str(status))

        yield update


@contextmanager
def _lines(name: str, max_iter: int) -> Iterator[Update]:
    start = shown = time.monotonic()
    first: int | None = None

    def update(status: _Status) -> None:
        nonlocal shown, first
        now = time.monotonic()
        if first is None:
            first = status.iteration
        if now - shown < LINE_EVERY:
            return
        shown = now
        line = f"{name}: {status.iteration}/{max_iter} {status}"
        if done := status.iteration - first:
            left = (now - start) * (max_iter - status.iteration) / done
            line += f", {left:.0f} s left"
        click.echo(line, err=True)

    yield update


@contextmanager
def steps(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far work has come that tells (steps done, of how many); on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
