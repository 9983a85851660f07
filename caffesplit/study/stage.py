"""Carrying out a stage of a study: what is done already is left alone, what was begun goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from caffesplit.engines.job import Job, Outcome, prepare
from caffesplit.engines.start import check_snapshot
from caffesplit.errors import CaffesplitError, Location, LogError, OutputError
from caffesplit.experiment import Experiment
from caffesplit.formats import snapshots, trainlog
from caffesplit.study.stage_files import State, read_state, write_state
from caffesplit.study.stage_make import Initialise, Place, Start, make
from caffesplit.study.stages import Stage

Train = Callable[[Experiment, Job], Outcome]


PROGRESS = ("to do", "begun", "finished", "changed")
"""How far a stage has come; a changed one was made from other inputs."""


class Interrupted(Exception):  # noqa: N818 - no error
    """A training was stopped by its user, after a snapshot."""


@dataclass(frozen=True)
class Means:
    """What a stage is carried out with."""

    train: Train
    initialise: Initialise
    resume: str
    """One of `study.RESUME`."""
    gpu: str | None = None
    force: bool = False
    """Whether a folder of another stage gives way."""


def perform(
    stage: Stage, out: Path, start: Start, parents: Mapping[str, Place], means: Means
) -> Place:
    """Make and train a stage in `out`, as far as that is still to be done; return its place.

    Raises:
        OutputError: if `out` is another stage's and `means.force` is false, or no stage's.
        Interrupted: if the user stops it.
        CaffesplitError: if it cannot be made, or its training fails.
    """
    if stage.kind == "given":
        return start.place
    check(stage, out, means.force)
    state = _state(stage, out)
    if not state.made:
        write_state(out, state)
        root = make(stage, out, start, parents, means.initialise)
        state = replace(state, made=True, root=os.path.relpath(root, out.resolve()))
        write_state(out, state)
    place = place_of(out)
    if not state.finished:
        _train(place.load(), out, state, means)
    return place


def check(stage: Stage, out: Path, force: bool = False) -> None:
    """Check that a folder is this stage's, or free; one of another stage may give way to `force`.

    Raises:
        OutputError: if it is not.
    """
    if stage.kind == "given" or not out.exists():
        return
    state = read_state(out)
    if state is None:
        raise OutputError(
            "no stage of a study", f"nothing, or {stage} of this one",
            "Give another output, or remove it.", Location(str(out)),
        )  # fmt: skip
    if state.key != stage.key and not force:
        raise OutputError(
            "made from other inputs", f"{stage} of this study",
            "The study, or what it starts from, has changed: give another output, or --force to "
            "make anew what depends on the change.", Location(str(out)),
        )  # fmt: skip


def place_of(out: Path) -> Place:
    """Where the experiment of a stage that is made lies."""
    state = read_state(out)
    return Place(out, out.resolve() / state.root if state else None)


def progress_of(stage: Stage, out: Path) -> str:
    """How far a stage in `out` has come: one of `PROGRESS`."""
    state = read_state(out)
    if stage.kind == "given":
        return "finished"
    if state is None:
        return "to do"
    if state.key != stage.key:
        return "changed"
    return "finished" if state.finished else "begun"


def is_finished(stage: Stage, out: Path) -> bool:
    """Whether there is nothing left to do for a stage in `out`."""
    return progress_of(stage, out) == "finished"


def _state(stage: Stage, out: Path) -> State:
    """The state to go on from; a new one where there is none, and another stage gives way."""
    state = read_state(out)
    if state is not None and state.key == stage.key:
        return state
    if out.exists():
        shutil.rmtree(out)
    return State(stage.key)


def _train(experiment: Experiment, out: Path, state: State, means: Means) -> None:
    if not _has_ended(experiment.folder / "train.log"):
        snapshot = _last_snapshot(experiment) if means.resume == "snapshot" else None
        if snapshot is not None:
            state = replace(state, resumed=(*state.resumed, snapshot[1]))
            write_state(out, state)
        job = prepare(experiment, snapshot=snapshot and snapshot[0], gpu=means.gpu, force=True)
        outcome = means.train(experiment, job)
        if outcome.stopped:
            raise Interrupted
        state = replace(state, seconds=state.seconds + outcome.seconds)
    write_state(out, replace(state, finished=True))


def _has_ended(log: Path) -> bool:
    """Whether the log's run came to its end, though it was not noted; Ctrl-C is none."""
    try:
        events = trainlog.read(log, training=False).events if log.exists() else ()
    except LogError:
        return False
    kinds = [event.kind for event in events[-2:]]
    return kinds[-1:] == ["done"] and "stopped" not in kinds


def _last_snapshot(experiment: Experiment) -> tuple[Path, int] | None:
    """The last complete solver state from which there is something left to train."""
    found = snapshots.files(experiment.snapshot_prefix)
    for path, iteration in sorted(found.items(), key=lambda item: -item[1]):
        if ".solverstate" in path.name and iteration < experiment.solver.max_iter:
            try:
                check_snapshot(experiment, path)
            except CaffesplitError:
                continue  # Caffe was killed while it wrote it.
            return path, iteration
    return None
