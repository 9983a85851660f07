"""Training logs of `caffe train`: text in, typed rows and events out.

`Parser` follows a log while it grows, `records` streams over one, both in constant memory;
`read` keeps the rows of a whole one.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from caffesplit.errors import Location, LogError
from caffesplit.formats._log_lines import Event, Parser, Record, TestRow, TrainRow

__all__ = ["Event", "Parser", "Record", "TestRow", "TrainLog", "TrainRow", "read", "records"]

CHUNK = 1 << 20
"""Characters of a file read at a time."""

Row = TypeVar("Row", TrainRow, TestRow)


@dataclass(frozen=True)
class TrainLog:
    """A whole log. Rows are in order of iteration, one per iteration (and test net)."""

    path: str
    train: tuple[TrainRow, ...]
    test: tuple[TestRow, ...]
    events: tuple[Event, ...]
    superseded: tuple[TrainRow | TestRow, ...]
    """Rows that a later part of the log, a resumed run for one, printed once more."""

    @property
    def finished(self) -> bool:
        """Whether the last run ended: it was done, stopped early or died of a fatal error."""
        return bool(self.events) and self.events[-1].kind in ("done", "stopped", "fatal")

    @property
    def diverged_at(self) -> int | None:
        """The iteration from which on every training row is a diverged one, if there are any."""
        iteration = None
        for row in reversed(self.train):
            if not row.diverged:
                break
            iteration = row.iteration
        return iteration


def read(path: str | os.PathLike[str]) -> TrainLog:
    """Read a log file, gzipped or not; `-` is standard input.

    Raises:
        LogError: if the file cannot be read or has no line of training or testing.
    """
    name, parser = os.fspath(path), Parser()
    found: list[Record] = []
    try:
        for piece in _pieces(name):
            found += parser.feed(piece)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LogError(
            f"the log cannot be read ({reason})",
            "a text file, gzipped or not",
            "Give the file that holds what `caffe train` printed.",
            Location(name),
        ) from error
    found += parser.close()
    train, old_train = _stitch(
        [record for record in found if isinstance(record, TrainRow)], attrgetter("iteration")
    )
    test, old_test = _stitch(
        [record for record in found if isinstance(record, TestRow)],
        attrgetter("iteration", "net"),
    )
    if not train and not test:
        raise LogError(
            f"no line of training or testing among {parser.lines} lines",
            'lines like "Iteration 100, loss = 2.3"',
            "Give the file that holds what `caffe train` printed.",
            Location(name),
        )
    events = tuple(record for record in found if isinstance(record, Event))
    return TrainLog(name, train, test, events, old_train + old_test)


def records(lines: Iterable[str]) -> Iterator[Record]:
    """The records of complete lines, with or without their newlines, as they become complete."""
    parser = Parser()
    for line in lines:
        yield from parser.feed(line if line.endswith("\n") else line + "\n")
    yield from parser.close()


def _pieces(name: str) -> Iterator[str]:
    with open(0 if name == "-" else name, "rb", closefd=name != "-") as raw:
        gzipped = raw.peek(2)[:2] == b"\x1f\x8b"
        binary = gzip.GzipFile(fileobj=raw) if gzipped else raw
        text = io.TextIOWrapper(binary, encoding="utf-8", errors="replace", newline="\n")
        while piece := text.read(CHUNK):
            yield piece


def _stitch(
    rows: Iterable[Row], place: Callable[[Row], Any]
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Separate the rows that the last run over their place printed from older ones."""
    kept: list[Row] = []
    places: list[Any] = []
    superseded: list[Row] = []
    for row in rows:
        here = place(row)
        cut = bisect_left(places, here)
        superseded += kept[cut:]
        del kept[cut:], places[cut:]
        kept.append(row)
        places.append(here)
    return tuple(kept), tuple(superseded)
