"""The lines of a training log, one by one: what each says and which row it belongs to.

Every line that matters is found by its own words, wherever it stands, so that foreign lines (a
fork's, a data layer's, a Python wrapper's) may come between and glog's prefix may be missing.
What the lines look like, release by release: Caffe's src/caffe/solver.cpp, sgd_solver.cpp and
tools/caffe.cpp.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from caffesplit.formats.glog import Clock, fatal

LINE_LIMIT = 1 << 16
"""Characters of a line that are read; a log's own lines have a few hundred."""

SATURATED_LOSS = 87.3365
"""-log(FLT_MIN), where SoftmaxWithLoss stops: the right class has no probability left."""

EventKind = Literal[
    "start", "resume", "finetune", "snapshot", "solverstate", "stopped", "done", "fatal"
]


# Rows are NamedTuples, not dataclasses: a long log has a million, and these are built faster.
class TrainRow(NamedTuple):
    """`Iteration N, loss = …` with the `Train net output` and `lr` lines that belong to it."""

    iteration: int
    seconds: float
    """Since the log's first "Solving" line, or else its first row; nan without time stamps."""
    lr: float
    """Printed for this iteration, or else last before it; nan before the first."""
    loss: float
    """The weighted total, averaged over the solver's `average_loss` iterations."""
    outputs: Mapping[str, float]
    """Of the last mini-batch. A vector-valued top has `name`, `name#1`, `name#2` …"""

    @property
    def diverged(self) -> bool:
        """Whether the loss is not finite, or where SoftmaxWithLoss saturates."""
        return not math.isfinite(self.loss) or abs(self.loss - SATURATED_LOSS) < 1e-3


class TestRow(NamedTuple):
    """One test of one test net. Fields as in TrainRow, except:"""

    iteration: int
    seconds: float
    """When the first output was printed."""
    lr: float
    loss: float
    """The weighted total of the outputs with a loss weight; nan if none has one."""
    outputs: Mapping[str, float]
    net: int
    """Index of the test net."""


class Event(NamedTuple):
    """Something said once. `value` is the path, the net's name or the message."""

    kind: EventKind
    iteration: int | None
    """The last one printed before it."""
    seconds: float
    value: str


Record: TypeAlias = TrainRow | TestRow | Event

# Repetitions are bounded so that no line, however hostile, costs more than linear time.
_ITERATION = re.compile(
    r"Iteration (\d{1,10})(?: \([^()]{,99}\))?(?:, [\d.]{1,20}/\d{1,9}ep)?, "
    r"(?:loss = ([^\s,]{1,40})|lr = ([^\s,]{1,40})"
    r"|Testing net(?: \(#(\d{1,9})\))?)"
)
_OUTPUT = re.compile(
    r"(Train|Test) net output (?:mAP )?#\d{1,9}: (.{1,200}?) = (\S{1,40})"
    r"(?: \(\* \S{1,40} = (\S{1,40}) loss\))?"
)
_SCORE = re.compile(r"Test score (#\d{1,9}): (\S{1,40})")
_EVENT = re.compile(
    r"(?:\[[\d.]{1,9}\] ?)?(Solving|Resuming from|Restoring previous solver status from"
    r"|Finetuning from|Snapshotting to|Snapshotting solver state to"
    r"|Optimization stopped early|Optimization Done)\b(?: binary proto file| HDF5 file)?(.*)"
)
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
        self._block: _Block | None = None
        self._clock = Clock()
        self._iteration: int | None = None
        self._lr = math.nan
        self._last_event = ("", "")

    def feed(self, text: str) -> tuple[Record, ...]:
        """Take the log's next piece, of any length, and return the records it completes.

        A line counts when its newline has come; before that, a number may still be cut.
        """
        lines = (self._unfinished + text).split("\n")
        self._unfinished = lines.pop()[:LINE_LIMIT]
        self.lines += len(lines)
        for line in lines:
            if len(line) > LINE_LIMIT:
                line = line[:LINE_LIMIT]
            if "Iteration " in line:
                self._read_iteration(line)
            elif " net output " in line:
                self._read_output(line)
            else:
                self._read_other(line)
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
            self._records.append(row)
        self._block = None

    def _read_iteration(self, line: str) -> None:
        match = _ITERATION.search(line)
        if match is None:
            return
        digits, printed_loss, printed_lr, net = match.groups()
        iteration = int(digits)
        if printed_lr is not None:
            if (lr := _number(printed_lr)) is None:
                return
            block = self._block
            # v0.999 prints the rate before the loss of its iteration, later releases after it.
            if block is None or block.net is not None or block.iteration != iteration:
                self._finish_block()
            self._lr = lr
            self._finish_block()
        elif printed_loss is not None:
            if (loss := _number(printed_loss)) is None:
                return
            self._finish_block()
            self._block = _Block(iteration, None, self._clock.seconds(line), loss)
        else:
            self._finish_block()
            self._block = _Block(iteration, int(net or 0), math.nan, None)
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
            and (value := _number(printed)) is not None
        ):
            block.add(name, value)

    def _read_test_output(self, line: str, name: str, printed: str, weighted: str | None) -> None:
        block, value = self._block, _number(printed)
        if block is None or block.net is None or value is None:
            return
        if not block.outputs:
            block.seconds = self._clock.seconds(line)
        if weighted is not None and (loss := _number(weighted)) is not None:
            block.loss = (block.loss or 0.0) + loss
        block.add(name, value)

    def _read_other(self, line: str) -> None:
        message = line[line.find("] ") + 2 :].lstrip() if "] " in line else line
        match = _EVENT.match(message)
        if match is not None:
            self._add_event(_EVENT_KINDS[match[1]], match[2].strip().rstrip("."), line)
        elif message.startswith("Test score #") and (score := _SCORE.match(message)):
            self._read_test_output(line, f"score{score[1]}", score[2], None)
        elif fatal(line):
            self._add_event("fatal", message.strip(), line)

    def _add_event(self, kind: EventKind, value: str, line: str) -> None:
        self._finish_block()
        if (kind, value) == self._last_event:
            return  # Solver and tool both announce a resumed run and the end.
        self._last_event = kind, value
        if kind == "start" and self._iteration is None:
            self._clock.restart()
        self._records.append(Event(kind, self._iteration, self._clock.seconds(line), value))


class _Block:
    """A row while its lines come in. `net` is None for a training row."""

    __slots__ = ("element", "iteration", "loss", "net", "outputs", "seconds")

    def __init__(self, iteration: int, net: int | None, seconds: float, loss: float | None) -> None:
        self.iteration, self.net, self.seconds, self.loss = iteration, net, seconds, loss
        self.outputs: dict[str, float] = {}
        self.element = 0

    def add(self, name: str, value: float) -> None:
        if name in self.outputs:
            self.element += 1
            name = f"{name}#{self.element}"
        else:
            self.element = 0
        self.outputs[name] = value

    def row(self, lr: float) -> TrainRow | TestRow | None:
        """The finished row; None for a test that was stopped before it had a result."""
        loss = math.nan if self.loss is None else self.loss
        if self.net is None:
            return TrainRow(self.iteration, self.seconds, lr, loss, self.outputs)
        if self.outputs:
            return TestRow(self.iteration, self.seconds, lr, loss, self.outputs, self.net)
        return None


def _number(text: str) -> float | None:
    """The number, or None where two lines have run into each other.

    Microsoft's runtimes write nan as 1.#QNAN, -1.#IND or -nan(ind).
    """
    try:
        return float(text)
    except ValueError:
        return math.nan if "#" in text or "nan(" in text else None
