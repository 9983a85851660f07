"""What a study's bases start from: nets of the zoo, written and with their data, or experiments."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from caffesplit import zoo
from caffesplit.data.prepare import Progress
from caffesplit.errors import Location, SnapshotError, StudyError
from caffesplit.experiment import Experiment, load
from caffesplit.study.files import sha256
from caffesplit.study.stage_make import Place, Start
from caffesplit.study.study import Base
from caffesplit.study.study_data import prepared, shuffled

OWN = "bases"
"""The folder below a study's in which nets of the zoo are written."""


def start(
    base: Base,
    out: Path,
    data: Path,
    cache: Path,
    archives: Sequence[Path],
    progress: Progress,
) -> Start:
    """What a base starts from; data is prepared below `data` where it is not there.

    Raises:
        CaffesplitError: if there is no such net or experiment, or its data cannot be had.
    """
    if base.zoo is not None:
        folder = prepared(zoo.entry(base.zoo), data, cache, archives, progress)
        solver = zoo.write(base.zoo, out / OWN / base.zoo, out, folder, force=True)
        place = Place(solver, out)
    else:
        assert base.experiment is not None
        experiment = load(base.experiment)
        place = Place(experiment.solver_path, experiment.root)
    experiment = place.load()
    if base.trained:
        _check_trained(experiment)
    sources = {}
    if base.shuffle_labels:
        sources = shuffled(experiment, data, base.shuffle_labels, progress)
    return Start(place, sources)


def content(start: Start) -> str:
    """A hash of the files that tell what is trained."""
    experiment = start.place.load()
    paths = [*experiment.paths, *([experiment.deploy_path] if experiment.deploy_path else [])]
    return hashlib.sha256(" ".join(map(sha256, paths)).encode()).hexdigest()


def _check_trained(experiment: Experiment) -> None:
    try:
        experiment.snapshots()
    except SnapshotError as error:
        raise StudyError(
            "a base that is trained already, without snapshots",
            error.expected,
            "Leave out `trained`, and it is trained first.",
            Location(str(experiment.solver_path)),
        ) from error
