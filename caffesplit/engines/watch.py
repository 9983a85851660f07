"""A run as it is followed by its log: the log kept, its records read, its last words remembered."""

from __future__ import annotations

import codecs
import math
import re
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from caffesplit.engines import logfile
from caffesplit.errors import Location, OutputError
from caffesplit.formats.accuracy import accuracy_output
from caffesplit.formats.glog import fatal
from caffesplit.formats.trainlog import Event, Parser, Record, TestRow, TrainRow

WORDS_KEPT = 100
"""Lines of the log's end that are remembered; a stack trace has some 20."""

LINE_KEPT = 2000
"""Characters of a line that are remembered."""

CONTEXT = 3
"""Lines shown before the one that says what went wrong."""

_TRACE = ("*** Check failure stack trace", "    @ ", "*** Aborted at", "PC: @")
_ITERATION = re.compile(r"_iter_(\d+)")


class Watch:
    """Writes a log as it comes and reads it. A context: the log file is open within."""

    def __init__(self, log: Path, append: bool) -> None:
        self.iterations = 0
        self.loss: float | None = None
        self.loss_at = 0
        """The iteration of that loss."""
        self.accuracy: float | None = None
        self.snapshots: list[Path] = []
        self.begun = False
        """Whether the nets are set up and the training goes on to its iterations."""
        self.stopped = False
        self.done = False
        self.diverged_at: int | None = None
        """The iteration from which on every printed loss was a diverged one."""
        self._parser = Parser()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._words: deque[str] = deque([""], maxlen=WORDS_KEPT)
        self._file = logfile.opened(log, append)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What could not be written was told as it was fed.
        with suppress(OSError):
            self._file.close()

    def feed(self, data: bytes) -> tuple[Record, ...]:
        """Take the next piece of the log; return the records it completes.

        Raises:
            OutputError: if the log cannot be written.
        """
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"the log cannot be written ({error.strerror})",
                "a log that grows with the training",
                "Make room there, or give another log: --log FILE.",
                Location(self._file.name),
            ) from error
        text = self._decoder.decode(data)
        lines = (self._words.pop() + text).split("\n")
        self._words.extend(line[:LINE_KEPT] for line in lines)
        return self._noted(self._parser.feed(text))

    def close(self) -> tuple[Record, ...]:
        """Return the records that the log's end completes."""
        return self._noted(self._parser.close())

    @property
    def hopeless(self) -> bool:
        """Whether the loss is no number any more, which no further iteration can mend."""
        return self.loss is not None and not math.isfinite(self.loss)

    @property
    def trained(self) -> bool:
        """Whether there was a training at all."""
        return self.loss is not None or self.done or self.stopped

    @property
    def last_words(self) -> str:
        """What the log says last."""
        return last_words(self._words)

    def _noted(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        for record in records:
            self.begun |= not isinstance(record, Event) or record.kind == "start"
            if isinstance(record, TrainRow):
                self._note_loss(record)
            elif isinstance(record, TestRow):
                self.iterations = record.iteration
                self.accuracy = accuracy(record, self.accuracy)
            else:
                self._note_event(record)
        return records

    def _note_loss(self, row: TrainRow) -> None:
        self.iterations = self.loss_at = row.iteration
        self.loss = row.loss
        if not row.diverged:
            self.diverged_at = None
        elif self.diverged_at is None:
            self.diverged_at = row.iteration

    def _note_event(self, event: Event) -> None:
        if event.kind == "snapshot":
            self.snapshots.append(Path(event.value))
            # Loss and tests are printed now and then, a snapshot says exactly.
            if match := _ITERATION.search(event.value):
                self.iterations = int(match[1])
        elif event.kind == "stopped":
            self.stopped = True
        elif event.kind == "done":
            self.done = True


def last_words(lines: Iterable[str]) -> str:
    """What Caffe said last: a fatal error with the lines before it, without the trace."""
    words = [line for line in lines if line.strip() and not line.startswith(_TRACE)]
    for i, line in enumerate(words):
        if fatal(line):
            return "\n".join(words[max(0, i - CONTEXT) :])
    return "\n".join(words[-CONTEXT - 1 :])


def accuracy(row: TestRow, otherwise: float | None = None) -> float | None:
    """The accuracy that a test of the first test net gave."""
    name = accuracy_output(row.outputs) if row.net == 0 else None
    return otherwise if name is None else row.outputs[name]
