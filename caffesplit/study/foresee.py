"""What can be told before anything is trained: of a study that would fail only hours later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from caffesplit.errors import Location, StudyError, listed
from caffesplit.experiment import Experiment
from caffesplit.formats import schema
from caffesplit.formats.prototxt import Message
from caffesplit.metric.trajectory import Window
from caffesplit.split.solver_text import derived_solver
from caffesplit.study.study import Base, Chain, Generation, Study


def check(study: Study, experiments: Mapping[str, Experiment]) -> None:
    """Check that every window will hold snapshots, and that the first layers are there.

    `experiments` are those of the bases, by name.

    Raises:
        StudyError: for a window with fewer than two snapshots, a start that is none, a training
            that has nothing to do, or a layer that the base does not have.
        PrototxtError: for a field of a solver that Caffe does not know.
    """
    for base in study.bases:
        iterations = _of_base(base, experiments[base.name])
        for window in study.windows:
            _check_window(f"measure.windows, of {base.name}", window, iterations)
        _check_layers("measure.layers", study.layers, experiments[base.name])
    for chain in study.chains:
        _check_chain(chain, study.base(chain.base), experiments[chain.base])


def _check_chain(chain: Chain, base: Base, experiment: Experiment) -> None:
    solver, iterations = _solver(experiment.solver_tree, base), _of_base(base, experiment)
    first = chain.generations[0].layers
    place = f"chains.{chain.name}"
    if isinstance(first, int):
        _check_number(f"{place}.top", first, experiment)
    else:
        _check_layers(f"{place}.layers", first, experiment)
    for number, generation in enumerate(chain.generations, start=1):
        where = f"{place}, generation {number}"
        _check_window(where, generation.window, iterations)
        begin = _begin(where, generation, iterations)
        solver = derived_solver(solver, [], "", generation.assignments)
        iterations = saved(_read(solver), begin if generation.momentum else 0)
        if not iterations:
            raise StudyError(
                f"{where}: momentum goes on at iteration {begin}, where the solver ends",
                "something left to train",
                f"Raise max_iter there, as in set = {{ max_iter = {2 * begin} }}, or give an "
                "earlier start.",
            )


def saved(solver: Any, begin: int = 0) -> tuple[int, ...]:
    """The iterations after `begin` whose snapshots a training leaves (`Solver::Solve`)."""
    last = solver.max_iter
    if begin >= last:
        return ()
    every = solver.snapshot
    found = list(range((begin // every + 1) * every, last + 1, every)) if every > 0 else []
    return tuple(found if last in found or not solver.snapshot_after_train else [*found, last])


def _of_base(base: Base, experiment: Experiment) -> tuple[int, ...]:
    if base.trained:
        return tuple(snapshot.iteration for snapshot in experiment.snapshots())
    return saved(_read(_solver(experiment.solver_tree, base)))


def _solver(tree: Message, base: Base) -> Message:
    return derived_solver(tree, [], "", base.assignments)


def _read(solver: Message) -> Any:
    return schema.read(solver, "SolverParameter").message


def _begin(where: str, generation: Generation, iterations: Sequence[int]) -> int:
    """The iteration that a generation starts from."""
    if generation.start is None:
        return max(each for each in iterations if each <= generation.window[1])
    if generation.start not in iterations:
        raise StudyError(
            f"{where}: no snapshot of iteration {generation.start} to start from",
            f"one of {listed(iterations)}",
            "Correct `start`, or the solver's snapshot and max_iter.",
        )
    return generation.start


def _check_window(where: str, window: Window, iterations: Sequence[int]) -> None:
    first, last = window
    if sum(first <= each <= last for each in iterations) < 2:
        raise StudyError(
            f"{where}: fewer than two snapshots in the window [{first}, {last}]",
            f"two or more of {listed(iterations)}",
            "Correct the window, or the solver's snapshot and max_iter.",
        )


def _check_layers(where: str, names: Sequence[str], experiment: Experiment) -> None:
    unknown = [name for name in names if name not in experiment.kernel_layers]
    if unknown:
        raise StudyError(
            f"{where}: no layer {unknown[0]!r} with kernels",
            f"one of {', '.join(experiment.kernel_layers)}",
            at=Location(str(experiment.net_path)),
        )


def _check_number(where: str, number: int, experiment: Experiment) -> None:
    if number > len(experiment.kernel_layers):
        raise StudyError(
            f"{where} is {number}",
            f"at most {len(experiment.kernel_layers)}, the layers with kernels",
            at=Location(str(experiment.net_path)),
        )
