"""Training logs of `caffe train`: text in, typed rows and events out.

`Parser` follows a log while it grows, `records` streams over one, both in constant memory;
`read` keeps the rows of a whole one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caffesplit.errors import Location, LogError
from caffesplit.formats import log_text
from caffesplit.formats._log_lines import Parser
from caffesplit.formats.log_records import Event, Record, TestRow, TrainRow
from caffesplit.formats.log_stitch import LastRows, Stitch

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]

__all__ = ["Event", "Parser", "Record", "TestRow", "TrainLog", "TrainRow", "read", "records"]


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

    def to_dataframe(self) -> pandas.DataFrame:
        """The rows as a pandas DataFrame, those of training first, then those of the tests.

        Columns: phase (train or test), net (index of the test net, 0 for training), iteration,
        seconds, lr, loss, and each output by its name, nan where a row has it not. An output
        called like one of these columns is named `output NAME`.

        Raises:
            LogError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise LogError(
                "pandas is not installed",
                "it for a DataFrame",
                "Run `pip install pandas`, or use the rows in `.train` and `.test`.",
            ) from error
        rows: list[TrainRow | TestRow] = [*self.train, *self.test]
        return pandas.DataFrame([_flat(row) for row in rows])


def read(path: str | os.PathLike[str], training: bool = True) -> TrainLog:
    """Read a log file, gzipped or not; `-` is standard input.

    Without `training`, memory grows with the tests alone: of the training rows only the last is
    kept and, where the run has diverged, the first from which on it had.

    Raises:
        LogError: if the file cannot be read or has no line of training or testing.
    """
    name = os.fspath(path)
    source, parser = log_text.Source(name), Parser()
    train: Stitch[TrainRow] | LastRows = Stitch() if training else LastRows()
    test: Stitch[TestRow] = Stitch()
    events: list[Event] = []
    for record in _parsed(source, parser):
        if isinstance(record, TrainRow):
            train.add(record.iteration, record)
        elif isinstance(record, TestRow):
            test.add((record.iteration, record.net), record)
        else:
            events.append(record)
    if not train.items and not test.items:
        raise LogError(
            "the file is empty"
            if source.empty
            else f"no line of training or testing among {parser.lines} lines",
            'a log with lines like "Iteration 100, loss = 2.3"',
            "Give the file that holds what `caffe train` printed.",
            Location(name),
        )
    superseded: list[TrainRow | TestRow] = [*train.superseded, *test.superseded]
    return TrainLog(name, tuple(train.items), tuple(test.items), tuple(events), tuple(superseded))


def records(source: str | os.PathLike[str] | Iterable[str]) -> Iterator[Record]:
    """The records of a log file as in `read`, or of complete lines with or without their
    newlines, as they become complete.

    Raises:
        LogError: if the file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return _parsed(log_text.Source(os.fspath(source)), Parser())
    return _parsed((line if line.endswith("\n") else line + "\n" for line in source), Parser())


def _parsed(pieces: Iterable[str], parser: Parser) -> Iterator[Record]:
    for piece in pieces:
        yield from parser.feed(piece)
    yield from parser.close()


COLUMNS = ("phase", "net", "iteration", "seconds", "lr", "loss")


def _flat(row: TrainRow | TestRow) -> dict[str, Any]:
    phase, net = ("test", row.net) if isinstance(row, TestRow) else ("train", 0)
    values = (phase, net, row.iteration, row.seconds, row.lr, row.loss)
    named = {
        f"output {name}" if name in COLUMNS else name: value for name, value in row.outputs.items()
    }
    return {**dict(zip(COLUMNS, values, strict=True)), **named}
