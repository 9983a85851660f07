"""What a study's bases start from: nets of the zoo, written and with their data, or experiments."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from caffesplit import zoo
from caffesplit.data.prepare import Progress
from caffesplit.errors import Location, SnapshotError, StudyError
from caffesplit.experiment import Experiment, load
from caffesplit.study.files import deploy_net, sha256
from caffesplit.study.stage_make import Place, Start
from caffesplit.study.study import Base
from caffesplit.study.study_data import prepared, shuffled

OWN = "bases"
"""The folder below a study's in which nets of the zoo are written."""


@dataclass(frozen=True)
class Origin:
    """What is known of a base before anything is written."""

    experiment: Experiment
    """To be looked at; of a net of the zoo, there are no files."""
    content: str
    """A hash of all that tells what is trained: the texts of solver and nets and, of a base that
    is trained already, its last weights. The data are not looked into."""


def origin(base: Base) -> Origin:
    """What a base is.

    Raises:
        CaffesplitError: if there is no such net or experiment, or it is said to be trained and
            is not.
    """
    if base.zoo is not None:
        zoo.entry(base.zoo)
        with TemporaryDirectory() as folder:
            root = Path(folder)
            solver = zoo.write(base.zoo, root / base.zoo, root, root / "data")
            return _origin(load(solver, root))
    assert base.experiment is not None
    experiment = load(base.experiment.absolute())
    return _origin(experiment, _last_weights(experiment) if base.trained else "")


def _origin(experiment: Experiment, weights: str = "") -> Origin:
    deploy = deploy_net(experiment)
    trees = [experiment.solver_tree, *(each.net.tree for each in experiment.nets)]
    texts = map(str, trees if deploy is None else [*trees, deploy.tree])
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return Origin(experiment, hashlib.sha256(" ".join([*hashes, weights]).encode()).hexdigest())


def _last_weights(experiment: Experiment) -> str:
    """A hash of the last snapshot, which all the training before has made what it is."""
    try:
        return sha256(experiment.snapshots()[-1].path)
    except SnapshotError as error:
        raise StudyError(
            "a base that is trained already, without snapshots",
            error.expected,
            "Leave out `trained`, and it is trained first.",
            Location(str(experiment.solver_path)),
        ) from error


def start(
    base: Base,
    experiment: Experiment,
    out: Path,
    data: Path,
    cache: Path,
    archives: Sequence[Path],
    progress: Progress,
) -> Start:
    """What the stages of a base start from; its data is prepared below `data` where it is not
    there. `experiment` is that of its origin.

    Raises:
        CaffesplitError: if its data cannot be had.
    """
    place = Place(experiment.solver_path, experiment.root)
    if base.zoo is not None:
        folder = prepared(zoo.entry(base.zoo), data, cache, archives, progress)
        place = Place(zoo.write(base.zoo, out / OWN / base.zoo, out, folder, force=True), out)
    if not base.shuffle_labels:
        return Start(place, {})
    return Start(place, shuffled(place.load(), data, base.shuffle_labels, progress))
