"""What a layer must be so that it can be split; each refusal says why."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from caffesplit.errors import Location, SplitError
from caffesplit.net.check import check_weights
from caffesplit.net.graph import UPGRADE, Layer, Net
from caffesplit.net.wiring import wire
from caffesplit.split import geometry
from caffesplit.split.geometry import PARAMETERS, Geometry

Weights = Mapping[str, Sequence[npt.NDArray[np.float32]]]
"""Layer name → its blobs, as Caffe stores them."""

NO_FORM = {
    "Deconvolution": "Its kernels are one per input channel; the forms take apart output channels.",
    "Embed": "It has rows that inputs choose, no kernels.",
}
"""Why some layers with weights cannot be split."""


def splittable(net: Net, weights: Weights, name: str) -> Layer:
    """The layer of this name that training uses, if it can be split.

    Where each phase has a layer of its own under the name, all of them are looked at.

    Raises:
        SplitError: if one cannot be split, saying why, at the layer's place in the net.
    """
    layers = _named(net, name)
    for layer in layers:
        check_layer(net, layer)
        _check_params(layer)
    _check_phases(net, layers)
    trained = next(layer for layer in layers if _is_trained(layer))
    _check_blobs(net, trained, weights)
    own = layer_geometry(trained, weights)
    for layer in layers:
        check_alike(layer, own)
    size = own.num_output // own.group
    if size < 2:
        per_group = " per group" if own.group > 1 else ""
        raise _refusal(
            trained,
            f"layer {name!r} with {size} kernel{per_group}",
            f"two kernels{per_group} at least, one fast and one slow",
        )
    return trained


def layer_geometry(layer: Layer, weights: Weights) -> Geometry:
    """The geometry of a layer, whose weights tell the number of its axes."""
    return geometry.read(layer, weights[layer.name][0].ndim - 2)


def check_layer(net: Net, layer: Layer) -> None:
    """Raise SplitError unless the layer has one bottom, one top and a type that can be split."""
    if net.legacy:
        raise _refusal(
            layer,
            f"layer {layer.name!r} in the V1 format (`layers {{ … }}`)",
            "the current format (`layer { … }`)",
            UPGRADE,
        )
    if layer.type not in PARAMETERS:
        raise _refusal(
            layer,
            f"layer {layer.name!r} of type {layer.type}",
            " or ".join(PARAMETERS),
            NO_FORM.get(layer.type, "Other types have no form of split."),
        )
    if len(layer.bottoms) != 1 or len(layer.tops) != 1:
        raise _refusal(
            layer,
            f"layer {layer.name!r} with {len(layer.bottoms)} bottoms and {len(layer.tops)} tops",
            "one of each",
            "A kernel that reads several blobs cannot be split; write one layer per blob first.",
        )
    if layer.message.loss_weight:
        raise _refusal(layer, f"layer {layer.name!r} with a loss_weight", "a layer that is no loss")
    axis = getattr(layer.message, PARAMETERS[layer.type]).axis
    if layer.type == "Convolution" and axis != 1:
        raise _refusal(layer, f"layer {layer.name!r} with axis {axis}", "channels on axis 1")


def check_alike(layer: Layer, expected: Geometry) -> None:
    """Raise SplitError unless the layer's kernels lie as those of the layer that is split."""
    wanted = expected.described
    found = {"type": layer.type}
    if layer.type == expected.type:
        found = geometry.read(layer, len(expected.axes)).described
    for name, value in found.items():
        if value != wanted[name]:
            raise _refusal(
                layer,
                f"layer {layer.name!r} with {name} {value}",
                f"{wanted[name]}, as the layer of this name that is trained",
                "Its weights go to all layers of the name, in every phase and net.",
            )


def _named(net: Net, name: str) -> tuple[Layer, ...]:
    layers = net.named(name)
    if not layers:
        names = list(dict.fromkeys(layer.name for layer in net.layers))
        parts = [part for part in names if part.startswith(f"{name}_split")]
        if parts:
            raise SplitError(
                f"layer {name!r} is split in this net already, into {', '.join(parts)}",
                "a layer of the net",
                f"What was decided for {name!r} is for the net that this one was derived from.",
                _place(net),
            )
        close = difflib.get_close_matches(name, names, n=1)
        remedy = f"Did you mean {close[0]!r}?" if close else f"Layers: {', '.join(names)}."
        raise SplitError(f"no layer {name!r}", "a layer of the net", remedy, _place(net))
    return layers


def _check_phases(net: Net, layers: Sequence[Layer]) -> None:
    """Of each name one layer, in whatever state of the net; and one that learns."""
    states = dict(zip(map(id, net.layers), wire(net).states, strict=True))
    taken: frozenset[int] = frozenset()
    for layer in layers:
        if taken & states[id(layer)]:
            raise _refusal(
                layer,
                f"a second layer {layer.name!r} beside one in the same phase",
                "one in each phase",
                "Weights are loaded by name: give each a name of its own.",
            )
        taken |= states[id(layer)]
    if not any(map(_is_trained, layers)):
        raise _refusal(
            layers[0],
            f"layer {layers[0].name!r}, which training never uses",
            "a layer of the TRAIN phase",
            "What is not trained gains nothing from a split.",
        )


def _is_trained(layer: Layer) -> bool:
    states = [(0, ()), *((rule.min_level, rule.stage) for rule in layer.message.include)]
    return any(layer.is_in("TRAIN", level, stages) for level, stages in states)


def _check_params(layer: Layer) -> None:
    if layer.shared_params:
        raise _refusal(
            layer,
            f"layer {layer.name!r} with shared params ({', '.join(layer.shared_params)})",
            "parameters of its own",
            "Remove `param { name: … }`, here and where it is shared, if each may have its own.",
        )


def _check_blobs(net: Net, layer: Layer, weights: Weights) -> None:
    if layer.name not in weights:
        raise _refusal(
            layer,
            f"layer {layer.name!r} without weights in the snapshot",
            "a weight blob",
            "Is the snapshot of this net? `caffesplit check` compares them.",
        )
    alone = replace(net, layers=(layer,))
    for finding in check_weights(alone, {layer.name: weights[layer.name]}):
        if not finding.warning:
            raise _refusal(
                layer,
                finding.message,
                remedy="Is the snapshot of this net? `caffesplit check` compares them.",
            )


def _refusal(layer: Layer, found: str, expected: str = "", remedy: str = "") -> SplitError:
    return SplitError(found, expected, remedy or "Choose another layer.", layer.location)


def _place(net: Net) -> Location | None:
    location = net.layers[0].location
    return Location(location.path) if location else None
