"""Reading experiments for a report: whatever can be read of each, and why the rest cannot."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from caffesplit.errors import CaffesplitError, LogError, NetError, SnapshotError
from caffesplit.experiment import Experiment, find_solver, load
from caffesplit.formats import prototxt, trainlog
from caffesplit.metric import trajectory
from caffesplit.metric.history import Array
from caffesplit.metric.trajectory import Progress, Window
from caffesplit.net import graph
from caffesplit.net.shapes import Shapes, infer
from caffesplit.report.page_summary import in_generation_order
from caffesplit.report.page_values import Report, SplitRecord, Subject
from caffesplit.report.runs import run_names
from caffesplit.study.inputs import train_shapes
from caffesplit.study.records import FOLD, SPLIT, read_fold, read_split
from caffesplit.study.trees import logs_in, members

T = TypeVar("T")
Choose: TypeAlias = Callable[[Sequence[int]], Sequence[Window]]
"""The windows to score in an experiment with snapshots at these iterations."""

MAX_WINDOWS = 6
"""Windows that are scored unasked."""

KERNEL_AXES = 4
"""Of weights whose kernels are pictures: (N, C/G, KH, KW)."""


def read(
    arguments: Sequence[Path | str],
    windows: Sequence[Window] = (),
    metric: str | None = None,
    root: Path | str | None = None,
    progress: Progress | None = None,
    choose: Choose | None = None,
) -> Report:
    """Read experiments: folders, solvers, logs, folders of folds, or folders of all of these.

    Scored are `windows` or, without any, those that `choose` has for an experiment's snapshots.
    Without either, these are the windows in which the experiments' splits were decided, and all
    of its training where an experiment has no snapshots in them. What is missing or damaged is
    left out and told in the subject's `gaps`.

    Raises:
        NetError: if an argument does not exist, or is a folder without any experiment.
        LogError: if `metric` is a test output of no experiment.
    """
    paths = members(arguments)
    names = run_names([_named_by(path.resolve()) for path in paths])
    bases = {_place(path): name for path, name in zip(paths, names, strict=True)}
    drafts = [_Draft(name, path, bases) for name, path in zip(names, paths, strict=True)]
    subjects = [draft.texts(root) for draft in drafts]
    _check_metric(subjects, metric)
    if windows:
        choose = functools.partial(_fitting, windows)
    elif choose is None:
        decided = sorted({subject.split.plan.window for subject in subjects if subject.split})
        choose = functools.partial(_decided, decided[:MAX_WINDOWS])
    for place, draft in enumerate(drafts):
        subjects[place] = draft.scored(subjects[place], choose)
        if progress:
            progress(place + 1, len(drafts))
    return Report(in_generation_order(subjects), metric)


def _named_by(path: Path) -> Path:
    """What `run_names` names an experiment's folder by; a file by itself, or its folder."""
    return path / "train.log" if path.is_dir() else path


def _place(path: Path) -> Path:
    """What tells experiments apart: a folder each."""
    return path.resolve() if path.is_dir() else path.resolve().parent


def _check_metric(subjects: Sequence[Subject], metric: str | None) -> None:
    rows = [row for subject in subjects if subject.log for row in subject.log.test]
    names = dict.fromkeys(name for row in rows for name in row.outputs)
    if metric is not None and metric.lower() not in (name.lower() for name in names):
        raise LogError(
            f'no test output is named "{metric}"',
            f"one of {', '.join(names)}" if names else "a log with tests",
            "Choose another with --metric.",
        )


@dataclass
class _Draft:
    """An experiment while it is read: each part on its own, the reasons of failures collected."""

    name: str
    path: Path
    bases: Mapping[Path, str]
    experiment: Experiment | None = None
    gaps: dict[str, str] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)

    def attempt(self, part: str, read: Callable[[], T]) -> T | None:
        """What `read` gives, or None and the reason among the gaps."""
        try:
            return read()
        except (CaffesplitError, OSError) as error:
            self.gaps[part] = _reason(error)
            self.damaged.add(part)
            return None

    def texts(self, root: Path | str | None) -> Subject:
        """All but what the snapshots tell."""
        log_only = self.path.is_file() and self.path.suffix != ".prototxt"
        folder = _place(self.path)
        logs = [self.path] if log_only else logs_in(folder)
        made = Subject(self.name, str(self.path))
        if logs:
            made = replace(made, log=self.attempt("log", lambda: trainlog.read(logs[-1])))
        else:
            self.gaps["log"] = "there is no train.log, nor another *.log"
        if log_only:
            self.gaps["net"] = self.gaps["snapshots"] = "only its log was given"
            return self._finished(made)
        if (folder / SPLIT).exists():
            made = replace(made, split=self.attempt("split", lambda: self._split(folder)))
        if (folder / FOLD).exists():
            made = replace(made, fold=self.attempt("fold", lambda: read_fold(folder / FOLD)))
        if made.fold is not None and not _has_solver(self.path):
            made = replace(made, net=self.attempt("net", lambda: _net(folder)))
            self.gaps["snapshots"] = "a folded net is not trained"
        else:
            self.experiment = self.attempt("net", lambda: load(self.path, root))
        if self.experiment is not None:
            made = replace(made, net=self.experiment.net, solver=self.experiment.solver)
        return self._finished(replace(made, shapes=self._shapes(made)))

    def scored(self, subject: Subject, choose: Choose) -> Subject:
        """With what the snapshots tell."""
        experiment = self.experiment
        if experiment is None:
            return subject
        try:
            experiment.snapshots()
        except SnapshotError:
            self.gaps["snapshots"] = f"there are no {experiment.snapshot_prefix}_iter_N.caffemodel"
            return self._finished(subject)
        scored = self.attempt("snapshots", lambda: _scored(subject, experiment, choose))
        return self._finished(scored or subject)

    def _finished(self, subject: Subject) -> Subject:
        return replace(subject, gaps=dict(self.gaps), damaged=frozenset(self.damaged))

    def _split(self, folder: Path) -> SplitRecord:
        split = read_split(folder / SPLIT)
        base = Path(os.path.normpath(folder / split.solver)).parent
        name = self.bases.get(base)
        return SplitRecord(split.plan, split.settings, name or str(base), name is not None)

    def _shapes(self, subject: Subject) -> Shapes | None:
        if subject.net is None:
            return None
        net, experiment = subject.net, self.experiment
        try:
            return train_shapes(experiment) if experiment else infer(net)
        except CaffesplitError:
            return None  # The drawing does without; `caffesplit check` says what is wrong.


def _has_solver(path: Path) -> bool:
    try:
        find_solver(path)
    except NetError:
        return False
    return True


def _net(folder: Path) -> graph.Net:
    path = folder / "train_val.prototxt"
    return graph.build(prototxt.load(path), str(path))


def _scored(subject: Subject, experiment: Experiment, choose: Choose) -> Subject:
    history, layers = experiment.history(), experiment.kernel_layers
    windows = choose(history.iterations)
    last = history.load(history.iterations[-1])
    return replace(
        subject,
        snapshots=history.iterations,
        scores=trajectory.scores(history, windows, layers),
        norms=trajectory.norms(history, windows, layers),
        zeros={name: count for name in layers if (count := _zeros(last[name]))},
        kernels={name: last[name] for name in layers if last[name].ndim == KERNEL_AXES},
    )


def _fitting(windows: Sequence[Window], iterations: Sequence[int]) -> list[Window]:
    """Those of the windows that hold two snapshots or more."""
    return [
        (first, last)
        for first, last in windows
        if sum(first <= one <= last for one in iterations) > 1
    ]


def _decided(windows: Sequence[Window], iterations: Sequence[int]) -> list[Window]:
    """Those of the windows that fit; without any, the whole training."""
    return _fitting(windows, iterations) or _fitting([(iterations[0], iterations[-1])], iterations)


def _zeros(kernels: Array) -> int:
    """How many kernels are zero all over."""
    return int((~kernels.reshape(len(kernels), -1).any(axis=1)).sum())


def _reason(error: Exception) -> str:
    """An error in one line, without the remedy."""
    if isinstance(error, CaffesplitError):
        place = f"{error.at}: " if error.at else ""
        return place + error.found + (f", expected {error.expected}" if error.expected else "")
    return str(error)
