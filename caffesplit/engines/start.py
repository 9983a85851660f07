"""What a training starts from and what lies where it will write, looked at before Caffe is.

Caffe takes up any file as weights, even an empty one, and matches its layers by name: what does
not fit is passed over, and the training silently starts from scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from caffesplit.errors import EngineError, Location, OutputError, WeightsError, listed
from caffesplit.experiment import Experiment
from caffesplit.formats import caffemodel, solverstate


def check_weights(experiment: Experiment, weights: Path) -> None:
    """Raise WeightsError unless the file is whole and has weights of a layer of the net."""
    index = caffemodel.index(weights)
    layers = {layer.name for layer in experiment.net.layers}
    if not any(layer.name in layers and layer.blobs for layer in index.layers):
        raise WeightsError(
            "the weights have no layer of the net",
            f"those of a net with layers as in {experiment.net_path}",
            "Weights and net must belong together.",
            Location(str(weights)),
        )


def check_snapshot(experiment: Experiment, snapshot: Path) -> Path:
    """Check a solver state and the weights that it names; return the latter's path.

    Raises:
        EngineError: if the file is a caffemodel, or the weights are not where Caffe looks.
        WeightsError: if one of the two is damaged, or the weights are another net's.
    """
    at = Location(str(snapshot))
    if ".caffemodel" in snapshot.suffixes:
        raise EngineError(
            "weights in place of a snapshot",
            "a .solverstate",
            "Give the .solverstate of the same iteration to go on from it, or --weights to start "
            "from iteration 0.",
            at,
        )
    named = solverstate.read(snapshot).learned_net
    weights = experiment.root.resolve() / named
    if not weights.is_file():
        raise EngineError(
            f'its weights "{named}" do not exist',
            f"a file at {weights}",
            "Bring them there, or start from weights that you have: --weights FILE.",
            at,
        )
    check_weights(experiment, weights)
    return weights


def check_replacement(
    experiment: Experiment,
    earlier: Mapping[Path, int],
    start: tuple[Path, ...],
    force: bool,
    goes_on: bool = False,
) -> None:
    """Raise OutputError if a run would mix its snapshots with these, of an earlier one, or if what
    it starts from is among them.
    """
    at = Location(experiment.snapshot_prefix)
    taken = {path.resolve() for path in earlier}
    for path in start:
        if path.resolve() in taken:
            raise OutputError(
                f"the run starts from {path.name}, a snapshot that it replaces",
                "a start that stays",
                "Copy it to another name first, or give the solver another snapshot_prefix.",
                at,
            )
    if not earlier or force:
        return
    iterations = sorted(set(earlier.values()))
    states = [path for path in earlier if ".solverstate" in path.name]
    newest = max(states, key=lambda path: earlier[path], default=None)
    unfinished = newest and earlier[newest] < experiment.solver.max_iter
    go_on = f"Go on from the last: --snapshot {newest}, or give" if unfinished else "Give"
    raise OutputError(
        f"snapshots {'later than its start' if goes_on else 'of an earlier run'} are here "
        f"({listed(iterations)})",
        "none, so that the snapshots of two runs do not mix",
        f"{go_on} --force to replace them, or the solver another snapshot_prefix.",
        at,
    )
