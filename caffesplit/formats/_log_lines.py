"""The lines of a training log, one by one: what each says and which row it belongs to.

Every line that matters is found by its own words, wherever it stands, so that foreign lines (a
fork's, a data layer's, a Python wrapper's) may come between and glog's prefix may be missing.
What the lines look like, release by release: Caffe's src/caffe/solver.cpp, sgd_solver.cpp,
net.cpp and tools/caffe.cpp.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from caffesplit.formats import _log_rows
from caffesplit.formats._log_block import Block, named, number
from caffesplit.formats.glog import Clock, Stamp, fatal, thread
from caffesplit.formats.log_records import Event, EventKind, Record, TestRow, TrainRow

LINE_LIMIT = 1 << 16
"""Characters of a line that are read; a log's own lines have a few hundred."""

# Repetitions are bounded so that no line, however hostile, costs more than linear time.
_ITERATION = re.compile(
    r"Iteration (\d{1,10})(?: \([^()]{,99}\))?(?:, [\d.]{1,20}/\d{1,9}ep)?, "
    r"(?:loss = ([^\s,]{1,40})|lr = ([^\s,]{1,40})|step = (\d{1,9})"
    r"|Testing net(?: \(#(\d{1,9})\))?)"
)
_OUTPUT = re.compile(
    r"(Train|Test) net output (?:mAP )?#\d{1,9}: (.{1,200}?) = (\S{1,40})"
    r"(?: \(\* \S{1,40} = (\S{1,40}) loss\))?"
)
_WORDS = re.compile(
    r"(?:\[[\d.]{1,9}\] ?)?(?:"
    r"(?P<event>Solving|Resuming from|Restoring previous solver status from|Finetuning from"
    r"|Snapshotting to|Snapshotting solver state to|Optimization stopped early"
    r"|Optimization Done)\b(?: binary proto file| HDF5 file)?(?P<value>.*)"
    r"|(?:Top memory \(\w{1,9}\)|Memory) required for data: (?P<memory>\d{1,20})"
    r"|(?P<built>Network initialization done)"
    r"|Log file created at: (?P<year>[12]\d{3})/"
    r"|(?P<test>Running for \d{1,9} iterations)"
    r"|Test score (?P<score>#\d{1,9}): (?P<scored>\S{1,40})"
    r"|Loss: (?P<loss>\S{1,40}))"
)
INITIALS = "[SRFOMTNL"
"""What the words that `_WORDS` knows start with. Most lines are none of them."""

_RESULT = re.compile(r"(\S{1,200}) = (\S{1,40})(?: \(\* \S{1,40} = \S{1,40} loss\))?\s*$")
_SNAPSHOT = re.compile(r"_iter_(\d{1,10})")
_EVENT_KINDS: Mapping[str, EventKind] = {
    "Solving": "start",
    "Resuming from": "resume",
    "Restoring previous solver status from": "resume",
    "Finetuning from": "finetune",
    "Snapshotting to": "snapshot",
    "Snapshotting solver state to": "solverstate",
    "Optimization stopped early": "stopped",
    "Optimization Done": "done",
}


class Parser:
    """Turns the text of a log into records as they become complete, while the log grows."""

    def __init__(self) -> None:
        self.lines = 0
        """Lines read so far."""
        self._unfinished = ""
        self._records: list[Record] = []
        self._block: Block | None = None
        self._clock = Clock()
        self._iteration: int | None = None
        self._lr = math.nan
        self._last_event = ("", "")
        self._memory: str | None = None
        self._in_caffe_test = False
        self._diverged = False

    @property
    def zero(self) -> Stamp | None:
        """The time stamp at second 0; None where there is none so far."""
        return self._clock.zero

    def feed(self, text: str) -> tuple[Record, ...]:
        """Take the log's next piece, of any length, and return the records it completes.

        A line counts when its newline has come; before that, a number may still be cut.
        """
        text = self._unfinished + text
        end = text.rfind("\n") + 1
        self._unfinished = text[end : end + LINE_LIMIT]
        if end:
            self.lines += text.count("\n")
            for before, columns in _log_rows.split("\n" + text[:end]):
                self._read_lines(before[1:])
                self._read_rows(text, *columns)
        return self._take_records()

    def close(self) -> tuple[Record, ...]:
        """Return what the log's end completes. An unfinished last line is left out."""
        self._finish_block()
        return self._take_records()

    def _take_records(self) -> tuple[Record, ...]:
        records = tuple(self._records)
        self._records.clear()
        return records

    def _finish_block(self) -> None:
        if self._block is not None and (row := self._block.row(self._lr)) is not None:
            self._add_row(row, self._block.lines[0])
        self._block = None

    def _add_row(self, row: TrainRow | TestRow, text: str, stamp: str = "") -> None:
        """Take a row whose first line is that of `text` which starts with `stamp`."""
        self._records.append(row)
        if isinstance(row, TrainRow):
            if row.diverged and not self._diverged:
                line = re.search(rf"^{stamp}.*Iteration {row.iteration}\b.*", text, re.MULTILINE)
                value = f"loss = {row.loss:.6g}"
                event = Event(
                    "diverged", row.iteration, row.seconds, value, line[0] if line else ""
                )
                self._records.append(event)
            self._diverged = row.diverged

    def _read_rows(
        self, text: str, minutes: list[str], seconds: list[str], threads: list[str],
        digits: list[str], losses: list[str], *others: list[str],
    ) -> None:  # fmt: skip
        """Take training rows of `text` by columns, which is faster than one by one."""
        if not digits:
            return
        self._finish_block()
        *outputs, rates = others
        columns = (
            map(int, digits),
            map(self._clock.at, minutes, seconds),
            map(float, rates),
            map(float, losses),
            map(named, zip(*outputs, strict=True)) if outputs else ({} for _ in digits),
        )
        rows = list(map(TrainRow, *columns))
        self._iteration, self._lr = rows[-1].iteration, rows[-1].lr
        if self._diverged or any(row.diverged for row in rows):
            for row, minute, second in zip(rows, minutes, seconds, strict=True):
                self._add_row(row, text, minute + second)
        else:
            self._records += rows

    def _read_lines(self, text: str) -> None:
        for line in text.split("\n"):
            if len(line) > LINE_LIMIT:
                line = line[:LINE_LIMIT]
            if "Iteration " in line:
                self._read_iteration(line)
            elif " net output " in line:
                self._read_output(line)
            else:
                place = line.find("] ")
                start = place + 2 if place >= 0 else 0
                if line[start : start + 1] in INITIALS or self._in_caffe_test or line[:1] == "F":
                    self._read_other(line, start)

    def _read_iteration(self, line: str) -> None:
        match = _ITERATION.search(line)
        if match is None:
            return
        digits, printed_loss, printed_lr, step, net = match.groups()
        iteration = int(digits)
        if step is not None:
            self._add_event("step", step, line, iteration)
            return
        if printed_lr is not None:
            if (lr := number(printed_lr)) is None:
                return
            block = self._block
            if block is None or block.net is not None or block.iteration != iteration:
                self._finish_block()  # v0.999 prints the rate before the loss of its iteration.
            self._lr = lr
            # Other GPUs' threads print it, too, before or after the outputs.
            if self._block is not None and thread(line) == thread(self._block.lines[0]):
                self._finish_block()
        elif printed_loss is not None:
            if (loss := number(printed_loss)) is None:
                return
            self._finish_block()
            self._block = Block(iteration, None, self._clock.seconds(line), loss, line)
        else:
            self._finish_block()
            self._block = Block(iteration, int(net or 0), math.nan, None, line)
        self._iteration = iteration

    def _read_output(self, line: str) -> None:
        match = _OUTPUT.search(line)
        if match is None:
            return
        phase, name, printed, weighted = match.groups()
        if phase == "Test":
            self._read_test_output(line, name, printed, weighted)
        elif (
            (block := self._block) is not None
            and block.net is None
            and (value := number(printed)) is not None
        ):
            block.add(name, value)

    def _read_test_output(self, line: str, name: str, printed: str, weighted: str | None) -> None:
        block, value = self._block, number(printed)
        if block is None or block.net is None or value is None:
            return
        if not block.outputs:
            block.seconds = self._clock.seconds(line)
        if weighted is not None and (loss := number(weighted)) is not None:
            block.loss = (block.loss or 0.0) + loss
        block.lines.append(line)
        block.add(name, value)

    def _read_other(self, line: str, start: int) -> None:
        match = _WORDS.match(line, start)
        if match is not None:
            self._read_words(match, line)
        elif self._in_caffe_test and (result := _RESULT.match(line, start)):
            self._read_test_output(line, result[1], result[2], None)
        elif fatal(line):
            self._add_event("fatal", line[start:].strip(), line, self._iteration)

    def _read_words(self, match: re.Match[str], line: str) -> None:
        words = match.groupdict()
        if words["memory"] is not None:
            self._memory = words["memory"]  # So far: the net's last line has them all.
        elif words["built"] is not None:
            self._add_memory(line)
        elif words["year"] is not None:
            self._clock.year = int(words["year"])
        elif words["score"] is not None:
            self._read_test_output(line, f"score{words['score']}", words["scored"], None)
        elif words["test"] is not None:
            self._in_caffe_test = True
        elif words["loss"] is None:
            value = words["value"].partition(" Learning Rate Policy")[0].strip().rstrip(".")
            own = _SNAPSHOT.search(value)
            iteration = int(own[1]) if own else self._iteration
            self._add_event(_EVENT_KINDS[words["event"]], value, line, iteration)
        elif self._in_caffe_test and (loss := number(words["loss"])) is not None:
            self._finish_block()
            self._block = Block(0, 0, self._clock.seconds(line), loss, line)

    def _add_memory(self, line: str) -> None:
        if (memory := self._memory) is not None:
            self._memory = None
            self._add_event("memory", memory, line, self._iteration)

    def _add_event(self, kind: EventKind, value: str, line: str, iteration: int | None) -> None:
        if kind != "step":  # It stands between a row's loss and its rate.
            self._finish_block()
        if kind != "memory":
            if (kind, value) == self._last_event and kind != "done":
                return  # Solver and tool both announce a resumed run.
            self._last_event = kind, value
        if kind == "start":
            self._add_memory(line)  # Before rc, a net told its memory last.
            self._in_caffe_test = False
            if self._iteration is None:
                self._clock.restart()
        self._records.append(Event(kind, iteration, self._clock.seconds(line), value, line))
