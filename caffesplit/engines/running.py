"""What the engines share: one training of a solver at a time, signals, and how a run ended."""

from __future__ import annotations

import fcntl
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any

from caffesplit.engines.job import Job, Outcome
from caffesplit.engines.watch import Watch
from caffesplit.errors import CaffesplitError, EngineError, Location, OutputError, TrainingError
from caffesplit.formats import solverstate
from caffesplit.formats.trainlog import Record

Observer = Callable[[Record], None]
"""Called with every row and event of the log, as soon as it is complete."""

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
"""Those that a run handles: Caffe takes a snapshot and stops on SIGINT, takes one on SIGHUP."""


def lock(file: IO[Any], busy: CaffesplitError) -> None:
    """Keep other processes from locking an open file until it is closed; `busy` if one has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise busy from error
    except OSError:
        pass  # Some network file systems have no locks.


@contextmanager
def alone(solver: Path) -> Iterator[None]:
    """Keep a second training of the same solver from starting meanwhile.

    Raises:
        EngineError: if it is at work already.
    """
    with solver.open("rb") as file:
        busy = EngineError(
            "this solver is being trained with already",
            "one training at a time",
            "Wait for its end, or stop it: both would write the same snapshots.",
            Location(str(solver)),
        )
        lock(file, busy)
        yield


@contextmanager
def handling(handler: Callable[[int], None]) -> Iterator[None]:
    """Give signals to `handler` instead of ending on them, where this is the main thread."""

    def handle(number: int, frame: FrameType | None) -> None:
        handler(number)

    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        handled = []
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


class Replaced:
    """The files of an earlier run that a job replaces: there until this one has begun."""

    def __init__(self, job: Job) -> None:
        self._times = {path: path.stat().st_mtime_ns for path in job.replaced if path.exists()}

    def remove(self) -> None:
        """Remove those that this run has not written anew. Later calls do nothing."""
        for path, time_ns in self._times.items():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime_ns == time_ns:
                    path.unlink()
        self._times = {}


def outcome(job: Job, watch: Watch, start: float) -> Outcome:
    """What the log of a run tells that began at `start` (time.monotonic)."""
    return Outcome(
        watch.iterations,
        watch.loss,
        watch.accuracy,
        time.monotonic() - start,
        watch.stopped,
        tuple(job.root / path for path in watch.snapshots),
        watch.loss_at,
    )


def diverged(job: Job, watch: Watch) -> TrainingError:
    """The error of a run whose loss is no number any more, or saturated to its end."""
    return TrainingError(
        f"training diverged: the loss is {watch.loss:g} since iteration {watch.diverged_at}",
        "a loss that falls",
        f"Lower base_lr in {job.solver}, or set clip_gradients.",
        Location(str(job.log)),
    )


def crashed(job: Job, watch: Watch, who: str, how: str, otherwise: str) -> TrainingError:
    """The error of a run that ended in the middle: the last words of its log, or `otherwise`."""
    words = quoted(watch.last_words or otherwise)
    return TrainingError(
        f"{who} ended {_when(watch)} ({how}); its last words:",
        "",
        "\n".join(part for part in (words, _way_on(job, watch)) if part),
        Location(str(job.log)),
    )


def unwritten(job: Job, watch: Watch, error: OutputError) -> TrainingError:
    """The error of a run that ended since a file could not be written."""
    return TrainingError(
        f"the training ended {_when(watch)}: {error.found}",
        error.expected,
        "\n".join(part for part in (error.remedy, _way_on(job, watch)) if part),
        error.at,
    )


def _when(watch: Watch) -> str:
    return f"after iteration {watch.iterations}" if watch.iterations else "before any training"


def _way_on(job: Job, watch: Watch) -> str:
    """How a run that ended in the middle goes on; nothing if it left no solver state."""
    written = [str(path).replace(".caffemodel", ".solverstate") for path in watch.snapshots]
    states = [*([job.snapshot] if job.snapshot else []), *(job.root / path for path in written)]
    for state in reversed(states):
        # The last one may be half written.
        with suppress(CaffesplitError):
            solverstate.read(state)
            return f"It goes on from its last snapshot with --snapshot {state}"
    return ""


def quoted(words: str) -> str:
    return "\n".join(f"    {line}" for line in words.splitlines())
