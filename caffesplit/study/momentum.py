"""The state that a derived net's training goes on from, out of its base's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from caffesplit.errors import Location, SplitError, WeightsError
from caffesplit.experiment import Experiment
from caffesplit.formats import solverstate
from caffesplit.formats.solverstate import SolverState
from caffesplit.net.graph import Net
from caffesplit.split.momentum import carried_history, parameters, solver_type
from caffesplit.split.plan import Plan
from caffesplit.split.rewrite import Split, Weights

ENDINGS = (".solverstate", ".solverstate.h5")


def state_beside(weights: Path) -> Path:
    """The solver state that Caffe wrote with a snapshot's weights.

    Raises:
        SplitError: if there is none.
    """
    stem = weights.name.removesuffix(".h5").removesuffix(".caffemodel")
    states = [weights.with_name(stem + ending) for ending in ENDINGS]
    for state in states:
        if state.is_file():
            return state
    raise SplitError(
        "no solver state, which has the momentum, beside the weights",
        " or ".join(map(str, states)),
        "Start from a snapshot that has one (--weights ITER), or split without --momentum.",
        Location(str(weights)),
    )


def derived_state(
    path: Path,
    experiment: Experiment,
    weights: Weights,
    plan: Plan,
    change: Split,
    derived: Net,
    solver: Any,
) -> SolverState:
    """The state at `path`, of the experiment's net with these weights, carried over to `derived`.

    `solver` is the derived net's SolverParameter. The weights that the state names are the
    base's still.

    Raises:
        SplitError: if the two solvers are not of one type, or that is unknown; if the derived one
            ends no later than the state.
        WeightsError: if the state is damaged, or of another net or solver.
    """
    kind = solver_type(experiment.solver)
    if solver_type(solver) != kind:
        raise SplitError(
            f"a solver of type {solver_type(solver)} with the momentum of {kind}",
            "the same type",
            "Leave out --momentum, or the type in --set.",
        )
    state = solverstate.read(path)
    if state.iteration >= solver.max_iter:
        raise SplitError(
            f"a state of iteration {state.iteration}, with the derived solver's max_iter "
            f"{solver.max_iter} there is nothing left to train",
            "an earlier state, or a later end",
            f"Set a later end: --set max_iter=N, with N above {state.iteration}.",
            Location(str(path)),
        )
    _, used = experiment.uses[0]
    parts = {part.name: part.blobs for parts in change.parts.values() for part in parts}
    before = parameters(used.layers(experiment.net), weights)
    after = parameters(used.layers(derived), {**weights, **parts})
    try:
        history = carried_history(state.history, kind, before, after, plan, change)
    except WeightsError as error:
        at = Location(str(path))
        raise WeightsError(error.found, error.expected, error.remedy, at) from error
    return replace(state, history=history)
