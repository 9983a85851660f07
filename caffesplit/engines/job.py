"""A training job: what an engine is to run, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caffesplit.engines import logfile, start
from caffesplit.errors import EngineError, Location, NetError, OutputError
from caffesplit.experiment import Experiment
from caffesplit.formats import snapshots, solverstate
from caffesplit.formats.prototxt import Scalar
from caffesplit.net.solver_rules import check_solver


@dataclass(frozen=True)
class Job:
    """One call of `caffe train`.

    Attributes:
        solver: the solver prototxt.
        root: the working directory, which the solver's and the net's paths start from.
        log: where the log goes.
        weights: a caffemodel to start from, at iteration 0.
        snapshot: a solverstate to go on from, at its iteration.
        gpu: ids as Caffe takes them, "0", "0,1" or "all"; None leaves it to the solver.
        device_id: the GPU that the solver names, for where `gpu` is None.
        level: of the NetState to train in; Caffe's command line has one of its own.
        goes_on: whether this continues the run that has written the log.
        replaced: files of an earlier run, removed when this one has begun.
    """

    solver: Path
    root: Path
    log: Path
    weights: Path | None = None
    snapshot: Path | None = None
    gpu: str | None = None
    device_id: int = 0
    level: int = 0
    goes_on: bool = False
    replaced: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.weights and self.snapshot:
            raise EngineError(
                "both weights and a snapshot to start from",
                "one of them",
                "A snapshot (.solverstate) names its own weights.",
            )
        for path in (self.weights, self.snapshot):
            if path and not path.is_file():
                raise EngineError("no such file", "weights or a snapshot", at=Location(str(path)))


@dataclass(frozen=True)
class Outcome:
    """A run that ended well: at the solver's max_iter or, where `stopped`, on Ctrl-C.

    Attributes:
        iterations: that have been done.
        loss: the last one printed, if any was; `loss_at` is its iteration.
        accuracy: of the last test, if there was one with such an output.
        seconds: of wall-clock time, from Caffe's start to its end.
        snapshots: the weight files that were written, in their order.
    """

    iterations: int
    loss: float | None
    accuracy: float | None
    seconds: float
    stopped: bool
    snapshots: tuple[Path, ...]
    loss_at: int = 0


def prepare(
    experiment: Experiment,
    *,
    weights: Path | None = None,
    snapshot: Path | None = None,
    gpu: str | None = None,
    log: Path | None = None,
    force: bool = False,
) -> Job:
    """The job that trains an experiment, after a look at everything Caffe would stumble over.

    Where neither weights nor a snapshot are given, the experiment's own init.solverstate or
    init.caffemodel (or their HDF5 forms, `.h5`) is the start. The log is the experiment's
    train.log unless given. A run goes on if `snapshot` is given, and must not find later snapshots
    than that; any other run must find none at all, unless `force` has them replaced. The folder of
    `snapshot_prefix`, which Caffe does not create, is created.

    Raises:
        EngineError: if weights and snapshot are both given, or one of them does not exist; if
            the snapshot is of the last iteration.
        WeightsError: if the weights or the snapshot are damaged, or another net's.
        NetError: if Caffe would not take the solver, or train nothing with it; if a net or one of
            its data sources is not where Caffe will look for it, or the solver does not say how
            long each is tested.
        OutputError: if there are earlier snapshots and `force` is false, or the run would start
            from one that it replaces; if the log or the snapshots' folder cannot be written.
    """
    goes_on = snapshot is not None
    if weights is None and snapshot is None:
        snapshot = _existing(experiment.folder, "init.solverstate")
        weights = None if snapshot else _existing(experiment.folder, "init.caffemodel")
    _, trained = experiment.uses[0]
    job = Job(
        solver=experiment.solver_path.resolve(),
        root=experiment.root.resolve(),
        log=logfile.resolved(log or experiment.folder / "train.log"),
        weights=weights and weights.resolve(),
        snapshot=snapshot and snapshot.resolve(),
        gpu=gpu,
        device_id=experiment.solver.device_id,
        level=trained.level,
        goes_on=goes_on,
    )
    _check_solver(experiment)
    _check_nets(experiment)
    experiment.check_tests()
    for net, state in experiment.uses:
        start.check_sources(state.layers(net), experiment.root, experiment.moved)
    begin = _checked_start(experiment, job)
    since = solverstate.read(begin[0]).iteration if goes_on else -1
    found = snapshots.files(experiment.snapshot_prefix)
    later = {path: iteration for path, iteration in found.items() if iteration > since}
    start.check_replacement(experiment, later, begin, force, goes_on)
    logfile.check(job.log, (*experiment.paths, *begin))
    if log is not None:
        logfile.check_content(job.log)
    _make_snapshot_folder(experiment)
    return replace(job, replaced=tuple(later))


def _existing(folder: Path, name: str) -> Path | None:
    """The file, or its HDF5 form."""
    return next((path for path in (folder / name, folder / f"{name}.h5") if path.is_file()), None)


def _checked_start(experiment: Experiment, job: Job) -> tuple[Path, ...]:
    """The files that the run starts from, each looked into."""
    if job.snapshot:
        weights = start.check_snapshot(experiment, job.snapshot)
        _check_iterations_left(experiment, job.snapshot)
        return job.snapshot, weights
    given = [job.weights] if job.weights else _named_weights(experiment, job.root)
    for weights in given:
        start.check_weights(experiment, weights)
    return tuple(given)


def named_weights(solver: Any) -> list[str]:
    """The weights that a solver itself starts from, where its caller names none (`weights`)."""
    return [path.strip() for paths in solver.weights for path in paths.split(",")]


def _named_weights(experiment: Experiment, root: Path) -> list[Path]:
    found = [root / name for name in named_weights(experiment.solver)]
    for path in found:
        if not path.is_file():
            raise EngineError(
                "no such file", "the weights that the solver starts from",
                f"Bring them there, or correct `weights` in {experiment.solver_path}.",
                Location(str(path)),
            )  # fmt: skip
    return found


def _check_iterations_left(experiment: Experiment, snapshot: Path) -> None:
    iteration, last = solverstate.read(snapshot).iteration, experiment.solver.max_iter
    if iteration >= last:
        raise EngineError(
            f"nothing left to train: the snapshot is of iteration {iteration}",
            f"an earlier one than the solver's max_iter, {last}",
            f"Raise max_iter in {experiment.solver_path}.",
            Location(str(snapshot)),
        )


def _check_solver(experiment: Experiment) -> None:
    """Check that Caffe takes the solver, and trains something with it."""
    for finding in check_solver(experiment.solver_tree, str(experiment.solver_path)):
        if not finding.warning:
            close = f"Did you mean {finding.suggestion}? " if finding.suggestion else ""
            remedy = f"{close}`caffesplit check` shows all that is wrong."
            raise NetError(finding.message, "", remedy, finding.at)


def _check_nets(experiment: Experiment) -> None:
    """Check that all nets lie where the solver names them."""
    for each in experiment.nets:
        if isinstance(each.node, Scalar):
            expected = experiment.root / each.node.as_string()
            if not expected.is_file():
                raise NetError(
                    f"the net lies at {each.path}, which is not where the solver names it",
                    f"it at {expected}",
                    f"Correct the solver's `{each.field}` and `snapshot_prefix`; Caffe takes them "
                    "as they are.",
                    Location(str(experiment.solver_path)),
                )


def _make_snapshot_folder(experiment: Experiment) -> None:
    folder = experiment.snapshot_folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder of snapshot_prefix cannot be created ({error.strerror})",
            "a folder to write snapshots into",
            "Correct the solver's `snapshot_prefix`.",
            Location(str(folder)),
        ) from error
