"""The file a run's log goes into: checked before the run starts, never one that holds else."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from caffesplit.errors import Location, OutputError
from caffesplit.formats.glog import Clock

LOOKED_AT = 1 << 20
"""Bytes at the start of a file that are searched for a line of glog."""


def resolved(log: Path) -> Path:
    """The file's own absolute path; what is no file (/dev/stdout, say) keeps its name."""
    return log.absolute() if log.exists() and not log.is_file() else log.resolve()


def check(log: Path, inputs: Iterable[Path]) -> None:
    """Raise OutputError if `log` is one of `inputs`, or cannot be written."""
    if log.resolve() in {path.resolve() for path in inputs}:
        raise OutputError(
            "the log would go into a file that the training reads",
            "another file",
            "Give another: --log FILE.",
            Location(str(log)),
        )
    if log.is_dir():
        raise _unwritable(log, "Is a directory")
    nearest = next(path for path in (log, *log.parents) if path.exists())
    if not (nearest == log or nearest.is_dir()):
        raise _unwritable(log, "Not a directory")
    # An earlier log is renamed, which its folder must allow.
    needed = {nearest, log.parent} if log.is_file() else {nearest}
    if not all(os.access(path, os.W_OK) for path in needed):
        raise _unwritable(log, "Permission denied")


def check_content(log: Path) -> None:
    """Raise OutputError if `log` is a file that holds something, and no line of glog's."""
    if not log.is_file():
        return
    with log.open("rb") as file:
        lines = file.read(LOOKED_AT).decode("utf-8", "replace").splitlines()
    clock = Clock()
    if lines and all(math.isnan(clock.seconds(line)) for line in lines):
        raise OutputError(
            "this file is no log", "a new file, or an earlier log",
            "Give another: --log FILE.", Location(str(log)),
        )  # fmt: skip


def opened(log: Path, append: bool) -> BinaryIO:
    """Open the log for writing: a new one unless `append`, with an earlier one set aside.

    Raises:
        OutputError: if it cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if not append:
            _set_aside(log)
        return log.open("ab")
    except OSError as error:
        raise _unwritable(log, error.strerror) from error


def _set_aside(log: Path) -> None:
    """Rename an earlier run's log to LOG.1, or the first number that is free.

    A device, a pipe and an empty file (the shell's, say) are written to as they are.
    """
    if not log.is_file() or log.stat().st_size == 0:
        return
    number = 1
    while (aside := log.with_name(f"{log.name}.{number}")).exists():
        number += 1
    log.rename(aside)


def _unwritable(log: Path, reason: str | None) -> OutputError:
    return OutputError(
        f"the log cannot be written ({reason})",
        "a file in a writable folder",
        "Give another: --log FILE.",
        Location(str(log)),
    )
