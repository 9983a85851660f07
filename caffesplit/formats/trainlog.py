"""Training logs of `caffe train`: text in, typed rows and events out.

`records` streams over a log, `Parser` takes one piece by piece, both in constant memory; `read`
keeps the rows of a whole one, `Growing` of one that is still being written.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caffesplit.errors import Location, LogError
from caffesplit.formats import log_text
from caffesplit.formats._log_lines import Parser
from caffesplit.formats.glog import Stamp
from caffesplit.formats.log_records import Event, Record, TestRow, TrainRow
from caffesplit.formats.log_stitch import Records

if TYPE_CHECKING:
    import pandas

__all__ = [
    "Event",
    "Growing",
    "Parser",
    "Record",
    "TestRow",
    "TrainLog",
    "TrainRow",
    "read",
    "records",
]


@dataclass(frozen=True)
class TrainLog:
    """A whole log. Rows are in order of iteration, one per iteration (and test net)."""

    path: str
    train: tuple[TrainRow, ...]
    test: tuple[TestRow, ...]
    events: tuple[Event, ...]
    superseded: tuple[TrainRow | TestRow, ...]
    """Rows that a later part of the log, a resumed run for one, printed once more."""
    zero: Stamp | None = None
    """The time stamp at second 0; None if no line has one."""

    @property
    def has_rows(self) -> bool:
        """Whether there is a row of training or testing."""
        return bool(self.train or self.test)

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
    growing = Growing(path, training)
    growing.read_on()
    log = growing.log
    if not log.has_rows:
        raise growing.without_rows()
    return log


class Growing:
    """A log that is read while it is written: each time only what was added since.

    A file that was replaced is read anew. `training` as in `read`.
    """

    def __init__(self, path: str | os.PathLike[str], training: bool = True) -> None:
        self.path = os.fspath(path)
        self._training = training
        self._start()

    def _start(self) -> None:
        self._source, self._parser = log_text.Source(self.path), Parser()
        self._records = Records(self._training)

    def read_on(self) -> bool:
        """Read what is there by now; say whether there was anything new.

        Raises:
            LogError: if the file cannot be read.
        """
        anew = self._source.replaced()
        if anew:
            self._start()
        grown = False
        for piece in self._source:
            grown = True
            self._records.add(self._parser.feed(piece))
        return grown or anew

    @property
    def log(self) -> TrainLog:
        """What was read so far; perhaps without any row."""
        records, parser = copy.copy(self._records), copy.copy(self._parser)
        records.add(parser.close())  # Of copies, since the last row may still get more lines.
        train, test = records.train, records.test
        superseded: list[TrainRow | TestRow] = [*train.superseded, *test.superseded]
        rows = tuple(train.items), tuple(test.items)
        return TrainLog(self.path, *rows, tuple(records.events), tuple(superseded), parser.zero)

    def without_rows(self) -> LogError:
        """The error of a log in which there was nothing but other lines."""
        lines = self._parser.lines
        return LogError(
            f"no line of training or testing among {lines} lines"
            if not self._source.empty
            else "the file is empty",
            'a log with lines like "Iteration 100, loss = 2.3"',
            "Give the file that holds what `caffe train` printed. (With `display: 0` and no tests, "
            "it prints no figures.)",
            Location(self.path),
        )


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
