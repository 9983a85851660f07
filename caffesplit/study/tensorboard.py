"""Writing experiments as event files of TensorBoard, a folder for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from caffesplit.formats.output import check_targets, replacing
from caffesplit.metric.trajectory import Window
from caffesplit.report.page_values import Report, Subject
from caffesplit.report.tensorboard import event_file, events

FILE = "events.out.tfevents.0.caffesplit"
"""TensorBoard takes any file with tfevents in its name."""

SNAPSHOTS = 5
"""Of a window that slides over the training: as many steps in each, so that all compare."""


TIME_ZONES = timedelta(days=1)
"""How much earlier than its last line a file may seem to have been written."""


@dataclass(frozen=True)
class Written:
    """An experiment's event file; None where it has neither log nor snapshots."""

    subject: Subject
    path: Path | None


def sliding_windows(iterations: Sequence[int]) -> tuple[Window, ...]:
    """Windows of `SNAPSHOTS` snapshots, or of all if there are fewer, one ending at each."""
    length = min(SNAPSHOTS, len(iterations))
    last_start = len(iterations) - length
    return tuple(
        (iterations[start], iterations[start + length - 1]) for start in range(last_start + 1)
    )


def write_events(report: Report, out: Path, force: bool = False) -> tuple[Written, ...]:
    """Write `out/NAME/` with an event file for every experiment that was trained.

    Times are the log's own, taken as local time. Where it names no year, they lie in the last one
    that lets it end before its file was written last.

    Raises:
        OutputError: if a file is there already and `force` is false.
    """
    targets = {
        subject.name: out / subject.name / FILE
        for subject in report.subjects
        if subject.log or subject.scores
    }
    check_targets(targets.values(), force=force)
    written = []
    for subject in report.subjects:
        target = targets.get(subject.name)
        if target is not None:
            found = events(subject.log, subject.scores, _start(subject))
            with replacing(target, force=force) as (staged,), staged.open("wb") as file:
                file.writelines(event_file(found))
        written.append(Written(subject, target))
    return tuple(written)


def _start(subject: Subject) -> float:
    """The wall time of the log's second 0. A log without time stamps ends when its file does."""
    log = subject.log
    if log is None:
        return 0.0
    ends = [row.seconds for rows in (log.train, log.test) for row in rows[-1:]]
    length = max((seconds for seconds in ends if math.isfinite(seconds)), default=0.0)
    start = max(Path(log.path).stat().st_mtime - length, 0.0)
    latest = datetime.fromtimestamp(start) + TIME_ZONES
    stamped = log.zero.time(latest) if log.zero else None
    return stamped.timestamp() if stamped else start
