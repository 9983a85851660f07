"""The momentum that a derived net takes over from its base.

A solver's history is a blob, or two, for every learnable blob of its TRAIN net: momentum, or
running sums of gradients and their squares. Kernels that a split carries into its parts take
their rows along; layers that it leaves alone keep theirs; layers that it adds start from zeros,
as in a new training.

Sources: Net::AppendParam (src/caffe/net.cpp) for the order of parameters; src/caffe/solvers for
the history of each solver type; UpgradeSolverType (src/caffe/util/upgrade_proto.cpp).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from caffesplit.errors import SplitError, WeightsError
from caffesplit.net import solver as net_solver
from caffesplit.net.graph import Layer
from caffesplit.split import kernels
from caffesplit.split.kernels import Array
from caffesplit.split.plan import Plan
from caffesplit.split.rewrite import Split, Weights

HISTORY_ROWS = {
    "SGD": 1,
    "Nesterov": 1,
    "AdaGrad": 1,
    "RMSProp": 1,
    "AdaDelta": 2,
    "Adam": 2,
}
"""Blobs of history per parameter, by SolverParameter.type. Where there are two, the first ones of
all parameters come before all second ones."""


class Parameter(NamedTuple):
    """A learnable blob, by its layer and its number there."""

    layer: str
    blob: int
    shape: tuple[int, ...]


class Origin(NamedTuple):
    """The layer that a part of a split has its kernels from, which ones, and their axis."""

    layer: str
    kernels: tuple[int, ...]
    axis: int


def solver_type(solver: Any) -> str:
    """The type of a SolverParameter, in today's words or as the enum of before 2016.

    Raises:
        SplitError: if it is none of BVLC Caffe's.
    """
    name = net_solver.solver_type(solver)
    if name not in HISTORY_ROWS:
        raise SplitError(
            f"a solver of type {name!r}",
            f"one whose history is known: {', '.join(HISTORY_ROWS)}",
            "Split without --momentum.",
        )
    return name


def parameters(layers: Iterable[Layer], weights: Weights) -> tuple[Parameter, ...]:
    """The learnable blobs of a net in Caffe's order; shared ones count where they come first.

    `layers` are those of the net in its TRAIN state, `weights` its blobs by layer.
    """
    found, shared = [], set()
    for layer in layers:
        names = _param_names(layer)
        for number, blob in enumerate(weights.get(layer.name, ())):
            name = names[number] if number < len(names) else ""
            if name not in shared:
                found.append(Parameter(layer.name, number, blob.shape))
            shared |= {name} - {""}
    return tuple(found)


def carried_history(
    history: Sequence[Array],
    solver_type: str,
    base: Sequence[Parameter],
    derived: Sequence[Parameter],
    plan: Plan,
    change: Split,
) -> tuple[Array, ...]:
    """The history to train the derived net on with, in the order of its parameters.

    `history` is the base's, one blob per parameter of `base` or two, as `solver_type` has it.

    Raises:
        WeightsError: if the history is not one of these parameters and this type.
    """
    _check(history, solver_type, base)
    origins = _origins(plan, change)
    carried = []
    for start in range(0, len(history), len(base)):
        kept: Mapping[tuple[str, int], Array] = {
            (parameter.layer, parameter.blob): blob
            for parameter, blob in zip(base, history[start:], strict=False)
        }
        carried += [_carried(parameter, kept, origins) for parameter in derived]
    return tuple(carried)


def _param_names(layer: Layer) -> list[str]:
    """The names of its blobs, each under which it may be shared; in V1, `param` is the name."""
    return [getattr(spec, "name", spec) for spec in layer.message.param]


def _check(history: Sequence[Array], solver_type: str, base: Sequence[Parameter]) -> None:
    each = HISTORY_ROWS[solver_type]
    if len(history) != each * len(base):
        raise WeightsError(
            f"a history of {len(history)} blobs",
            f"{each * len(base)}: {each} for each of the net's {len(base)} learnable blobs, as "
            f"solvers of type {solver_type} have it",
            "Is the state of this net, and of this type of solver?",
        )
    for number, blob in enumerate(history):
        parameter = base[number % len(base)]
        if blob.size != math.prod(parameter.shape):
            raise WeightsError(
                f"history blob {number} of shape {blob.shape}",
                f"{parameter.shape}, as blob {parameter.blob} of layer {parameter.layer!r}",
                "Is the state of this net?",
            )


def _origins(plan: Plan, change: Split) -> dict[str, Origin]:
    """By name, each part that carries kernels of a planned layer."""
    origins = {}
    for layer in plan.layers:
        split1, split2, *_ = change.parts[layer.name]
        axis = change.geometries[layer.name].kernel_axis
        origins[split1.name] = Origin(layer.name, layer.fast, axis)
        origins[split2.name] = Origin(layer.name, layer.slow, axis)
    return origins


def _carried(
    parameter: Parameter,
    kept: Mapping[tuple[str, int], Array],
    origins: Mapping[str, Origin],
) -> Array:
    if (parameter.layer, parameter.blob) in kept:
        return kept[parameter.layer, parameter.blob]
    if parameter.layer not in origins:
        return np.zeros(parameter.shape, np.float32)
    layer, chosen, axis = origins[parameter.layer]
    shape = list(parameter.shape)
    shape[axis] = -1  # As many as the base has; the file may have four axes where two would do.
    (blob,) = kernels.rows((kept[layer, parameter.blob].reshape(shape),), chosen, axis)
    return blob
