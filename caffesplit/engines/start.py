"""What a run starts from and reads, and what lies where it will write, looked at before Caffe is.

Caffe takes up any file as weights, even an empty one, and matches its layers by name: what does
not fit is passed over, and the training silently starts from scratch.
"""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from caffesplit.errors import (
    MAX_LISTED,
    EngineError,
    Location,
    NetError,
    OutputError,
    WeightsError,
    listed,
)
from caffesplit.experiment import Experiment
from caffesplit.formats import caffemodel, prototxt, solverstate
from caffesplit.formats.prototxt import Field
from caffesplit.net import graph
from caffesplit.net.blobs import expected_blobs
from caffesplit.net.graph import Layer
from caffesplit.net.solver import State
from caffesplit.net.sources import read_paths
from caffesplit.net.upgrade import upgrade_net


def check_weights(experiment: Experiment, weights: Path) -> tuple[str, ...]:
    """As `unfilled`, of the net that an experiment trains."""
    return unfilled(experiment.train_layers, experiment.net_path, weights)


def unfilled(layers: Sequence[Layer], net: Path, weights: Path) -> tuple[str, ...]:
    """The names of layers with blobs for which a file has none: they keep their initial values.

    `layers` are those of the net in the file `net`, in the state in which it is used.

    Raises:
        WeightsError: unless the file is whole and has weights of one of the layers, where any has
            blobs.
    """
    found = {layer.name for layer in caffemodel.index(weights).layers if layer.blobs}
    learns = any(expected_blobs(layer) for layer in layers)
    if learns and found.isdisjoint(layer.name for layer in layers):
        raise WeightsError(
            "the weights have no layer of the net",
            f"those of a net with layers as in {net}",
            "Weights and net must belong together.",
            Location(str(weights)),
        )
    missing = (layer for layer in layers if layer.name not in found and not layer.shared_params)
    return tuple(dict.fromkeys(layer.name for layer in missing if expected_blobs(layer)))


def unfilled_line(names: Sequence[str]) -> str:
    """What to tell of layers that keep their initial values."""
    shown = ", ".join(names[:MAX_LISTED])
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    ending = "s its initial values" if len(names) == 1 else " their initial values"
    return f"no weights for: {shown}{more}, which keep{ending}"


def layers_of(net: Path, state: State) -> tuple[Layer, ...]:
    """The layers that the net in a file, of any age, has in a state.

    Raises:
        PrototxtError, NetError: if the file holds no net, or one that Caffe refuses to upgrade.
    """
    tree = upgrade_net(prototxt.load(net), str(net)).result
    return state.layers(graph.build(tree, str(net)))


def check_sources(
    layers: Iterable[Layer], root: Path, moved: Callable[[str], Path | None] = lambda path: None
) -> None:
    """Raise NetError unless all files and folders exist that the layers read, from `root` on.

    `moved` tells what a path that is gone may be now.
    """
    for field, path in read_paths(layers):
        if not (root / path).exists():
            raise _missing(field, path, root, moved(path))


def _missing(field: Field, path: str, root: Path, now: Path | None) -> NetError:
    remedy = "Bring it there, correct the path, or give the folder it starts from: --root DIR."
    if path.startswith("/"):
        remedy = "Bring it there, or correct the path."
    if now:
        remedy = f"There is {now}, though: if that is it, correct the path."
    return NetError(
        f'{field.name} "{path}" does not exist',
        f"a file or folder at {root.resolve() / path}",
        remedy,
        field.location(),
    )


def check_snapshot(experiment: Experiment, snapshot: Path) -> Path:
    """Check a solver state and the weights that it names; return the latter's path.

    Raises:
        EngineError: if the file is a caffemodel, if the weights are not where Caffe looks, or if
            others of their name lie beside the solver state.
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
    beside = snapshot.with_name(weights.name)
    if not weights.is_file():
        known = f"They may be those beside it: cp {beside} {weights}"
        remedy = "Bring them there, or start from weights that you have: --weights FILE."
        raise EngineError(
            f'its weights "{named}" do not exist',
            f"a file at {weights}",
            known if beside.is_file() else remedy,
            at,
        )
    if beside.is_file() and not filecmp.cmp(beside, weights, shallow=False):
        raise EngineError(
            f"its weights are {weights} by its own word, and others of that name lie beside it",
            "one and the same file",
            f"If those beside it are meant, put them there; else give {beside} another name.",
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
