"""What a reader of the report should know before trusting it: one warning per finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from caffesplit.errors import listed
from caffesplit.net.graph import Net
from caffesplit.report.page_values import Subject


@dataclass(frozen=True)
class Caution:
    """What is wrong with an experiment, in short and as a sentence."""

    subject: Subject
    kind: str
    text: str


def warnings(subjects: Sequence[Subject]) -> tuple[Caution, ...]:
    """All warnings, by experiment."""
    return tuple(
        Caution(subject, kind, text) for subject in subjects for kind, text in _of(subject)
    )


def _of(subject: Subject) -> Iterator[tuple[str, str]]:
    for part in sorted(subject.damaged):
        yield "unreadable", f"its {PARTS[part]} cannot be read: {subject.gaps[part]}"
    yield from _of_log(subject)
    yield from _of_snapshots(subject)
    yield from _of_kernels(subject)


PARTS = {
    "net": "solver or net",
    "log": "log",
    "snapshots": "snapshots",
    "split": "split.json",
    "fold": "fold.json",
}


def _of_log(subject: Subject) -> Iterator[tuple[str, str]]:
    log = subject.log
    if log is None:
        return
    if log.diverged_at is not None:
        yield (
            "diverged",
            f"loss = {log.train[-1].loss:.6g} from iteration {log.diverged_at:,} on",
        )
    again = [row.iteration for row in log.superseded]
    goes_on = [event.value for event in log.events if event.kind == "resume"]
    last_run = takewhile(lambda event: event.kind != "start", reversed(log.events))
    said = {event.kind: event.value for event in last_run}
    if again:
        yield (
            "resumed",
            f"iterations {min(again):,} to {max(again):,} were trained more than once; "
            "the curves show the last time",
        )
    elif goes_on:
        yield "resumed", f"the log goes on from {goes_on[-1]}"
    planned = subject.solver.max_iter if subject.solver is not None else 0
    place = f"iteration {subject.last_iteration:,}" + (f" of {planned:,}" if planned else "")
    if "fatal" in said:
        yield "crashed", f"at {place}; Caffe's last words: {said['fatal']}"
    elif "stopped" in said:
        yield "unfinished", f"it was stopped at {place}"
    elif not log.finished:
        yield "unfinished", f"the log ends at {place}, without a last word"


def _of_snapshots(subject: Subject) -> Iterator[tuple[str, str]]:
    log, solver = subject.log, subject.solver
    if log is None or solver is None or "snapshots" in subject.damaged:
        return
    if not subject.snapshots:
        yield "snapshots missing", f"{subject.gaps['snapshots']}: no TPM, no norms"
        return
    if not solver.snapshot:
        return
    first = min(subject.snapshots)
    expected = range(
        -(-first // solver.snapshot) * solver.snapshot, subject.last_iteration + 1, solver.snapshot
    )
    missing = sorted(set(expected) - set(subject.snapshots))
    if missing:
        yield "snapshots missing", f"none at {listed(missing)}; TPM skips them"


def _of_kernels(subject: Subject) -> Iterator[tuple[str, str]]:
    frozen = _frozen(subject.net) if subject.net else set()
    for name, count in subject.zeros.items():
        yield "dead kernels", f"{name}: {count} all zero in the last snapshot"
    for scored in subject.scores:
        for layer in scored.layers:
            still = layer.undefined - layer.diverged
            first, last = scored.window
            if layer.diverged:
                yield (
                    "diverged",
                    f"{layer.name}: {layer.diverged} kernels held NaN or infinity "
                    f"in {first:,} to {last:,}",
                )
            if still and layer.name not in frozen:
                yield (
                    "dead kernels",
                    f"{layer.name}: {still} never moved in {first:,} to {last:,}; "
                    "their TPM is undefined",
                )


def _frozen(net: Net) -> set[str]:
    """The layers whose weights the net itself leaves untrained."""
    frozen = set()
    for layer in net.layers:
        message = layer.message
        rates = message.blobs_lr if net.legacy else [each.lr_mult for each in message.param]
        if list(rates[:1]) == [0]:
            frozen.add(layer.name)
    return frozen
