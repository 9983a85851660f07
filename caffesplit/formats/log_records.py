"""What a training log says: rows of training and testing, and events between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

SATURATED_LOSS = 87.3365
"""-log(FLT_MIN), where SoftmaxWithLoss stops: the right class has no probability left."""

EventKind = Literal[
    "memory",
    "finetune",
    "resume",
    "start",
    "step",
    "snapshot",
    "solverstate",
    "diverged",
    "stopped",
    "done",
    "fatal",
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
        if abs(self.loss) < SATURATED_LOSS - 1:  # So it is with nearly all.
            return False
        return not math.isfinite(self.loss) or abs(self.loss - SATURATED_LOSS) < 1e-3


class TestRow(NamedTuple):
    """One test of one test net, or the result of `caffe test`. Fields as in TrainRow, except:"""

    iteration: int
    """0 for `caffe test`, which does not say of which iteration the weights are."""
    seconds: float
    """When the first output was printed."""
    lr: float
    loss: float
    """The weighted total of the outputs with a loss weight; nan if none has one."""
    outputs: Mapping[str, float]
    net: int
    """Index of the test net."""
    lines: tuple[str, ...] = ()
    """The log's own: the one that says that there is a test, then one for each output."""


class Event(NamedTuple):
    """Something said once.

    `value` is, by kind: memory, the bytes that a net's blobs take; finetune, resume, snapshot and
    solverstate, a path; start, the net's name; step, the number of the learning rate's step;
    diverged, the loss; fatal, the message; else empty.
    """

    kind: EventKind
    iteration: int | None
    """The event's own, where its line tells; else the last one printed before it."""
    seconds: float
    value: str
    line: str = ""
    """The log's own."""


Record: TypeAlias = TrainRow | TestRow | Event
