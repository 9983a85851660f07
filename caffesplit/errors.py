"""Errors that name the place, the finding, the expectation and the remedy.

Every error a user can meet is a `CaffesplitError`: the command line prints it as one
message and exits with its `exit_code`; programs read its fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Location:
    """A place in a text file (line, column) or in a binary one (byte, layer, blob).

    `line` and `column` count from 1, `byte` and `blob` from 0. `text` is the source line,
    shown under the message with a caret at `column`.
    """

    path: str
    line: int | None = None
    column: int | None = None
    text: str | None = None
    byte: int | None = None
    layer: str | None = None
    blob: int | None = None

    def __str__(self) -> str:
        place = self.path
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        details = []
        if self.byte is not None:
            details.append(f"byte {self.byte}")
        if self.layer is not None:
            details.append(f'layer "{self.layer}"')
        if self.blob is not None:
            details.append(f"blob {self.blob}")
        return place + (": " + ", ".join(details) if details else "")

    @property
    def excerpt(self) -> str:
        """The source line with a caret under the column, or an empty string."""
        if self.text is None or self.column is None:
            return ""
        text = self.text.rstrip("\r\n")
        start = max(0, self.column - 1 - EXCERPT_WIDTH // 2)
        shown = text[start : start + EXCERPT_WIDTH].replace("\t", " ")
        return f"    {shown}\n    {' ' * (self.column - 1 - start)}^"


EXCERPT_WIDTH = 100
"""Characters of a source line shown in a message; longer lines are cut around the caret."""


class CaffesplitError(Exception):
    """Bad input or usage: what was found where, what was expected, what to do about it."""

    exit_code = 2

    def __init__(
        self, found: str, expected: str = "", remedy: str = "", at: Location | None = None
    ) -> None:
        super().__init__(found, expected, remedy, at)
        self.found, self.expected, self.remedy, self.at = found, expected, remedy, at

    def __str__(self) -> str:
        head = f"{self.at}: " if self.at else ""
        head += self.found + (f", expected {self.expected}" if self.expected else "")
        excerpt = self.at.excerpt if self.at else ""
        return "\n".join(part for part in (head, excerpt, self.remedy) if part)


class PrototxtError(CaffesplitError):
    """Text that protobuf's text format, or Caffe's schema, does not accept."""


class WeightsError(CaffesplitError):
    """A caffemodel, solverstate or mean file that is damaged or of another format."""


class SnapshotError(CaffesplitError):
    """Snapshots that are missing, or too few for a window."""


class LogError(CaffesplitError):
    """A training log that holds nothing to read."""


class DatabaseError(CaffesplitError):
    """An LMDB that cannot be read or written."""


class NetError(CaffesplitError):
    """A net or solver that is not legal, or not complete."""


class SplitError(CaffesplitError):
    """A layer that cannot be split, or a plan that does not fit the net."""


class FoldError(CaffesplitError):
    """A fold that would compute something else than the net it is of."""

    exit_code = 1


class StudyError(CaffesplitError):
    """A study file that cannot be understood, or a study that cannot be carried out."""


class OutputError(CaffesplitError):
    """An output that must not be, or cannot be, written."""


class EngineError(CaffesplitError):
    """An engine that is missing or does not start."""


class TrainingError(CaffesplitError):
    """A training job that ran and failed: it diverged, crashed or was killed."""

    exit_code = 1


MAX_LISTED = 10
"""Numbers that a message lists one by one."""


def listed(numbers: Sequence[int]) -> str:
    """Ascending numbers for a message, abbreviated where they are many."""
    if not numbers:
        return "none"
    if len(numbers) <= MAX_LISTED:
        return ", ".join(map(str, numbers))
    steps = {later - earlier for earlier, later in pairwise(numbers)}
    every = f", every {steps.pop()}" if len(steps) == 1 else ""
    return f"{numbers[0]}, {numbers[1]}, … {numbers[-1]} ({len(numbers)} of them{every})"
