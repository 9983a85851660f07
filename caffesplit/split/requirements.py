"""What a layer must be so that it can be split; each refusal says why."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from caffesplit.errors import Location, SplitError
from caffesplit.net.check import check_weights
from caffesplit.net.graph import PHASES, Layer, Net


def splittable(
    net: Net, weights: Mapping[str, Sequence[npt.NDArray[np.float32]]], name: str
) -> Layer:
    """The layer of this name, if it can be split.

    Raises:
        SplitError: if it cannot, saying why, at the layer's place in the net.
    """
    layer = _only_layer(net, name)
    check_convolution(net, layer)
    _check_phases(layer)
    _check_params(layer)
    _check_blobs(net, layer, weights)
    return layer


def _only_layer(net: Net, name: str) -> Layer:
    layers = net.named(name)
    if not layers:
        names = [layer.name for layer in net.layers]
        close = difflib.get_close_matches(name, names, n=1)
        remedy = f"Did you mean {close[0]!r}?" if close else f"Layers: {', '.join(names)}."
        raise SplitError(f"no layer {name!r}", "a layer of the net", remedy, _place(net))
    if len(layers) > 1:
        raise _refusal(
            layers[1],
            f"{len(layers)} layers named {name!r}, one per phase",
            "one layer that both phases use",
        )
    return layers[0]


def check_convolution(net: Net, layer: Layer) -> None:
    """Raise SplitError unless the layer is a convolution with one bottom and one top."""
    if net.legacy:
        raise _refusal(
            layer,
            f"layer {layer.name!r} in the V1 format (`layers {{ … }}`)",
            "the current format (`layer { … }`)",
            "Upgrade the net first: Caffe's upgrade_net_proto_text does it.",
        )
    if layer.type != "Convolution":
        raise _refusal(
            layer, f"layer {layer.name!r} of type {layer.type}", "a Convolution",
            "Other types have no form of split.",
        )  # fmt: skip
    if len(layer.bottoms) != 1 or len(layer.tops) != 1:
        raise _refusal(
            layer,
            f"layer {layer.name!r} with {len(layer.bottoms)} bottoms and {len(layer.tops)} tops",
            "one of each",
            "A kernel that reads several blobs cannot be split; write one layer per blob first.",
        )
    parameter = layer.message.convolution_param
    if parameter.axis != 1 or layer.message.loss_weight:
        what = f"axis {parameter.axis}" if parameter.axis != 1 else "a loss_weight"
        raise _refusal(layer, f"layer {layer.name!r} with {what}", "channels on axis 1, no loss")


def _check_phases(layer: Layer) -> None:
    if layer.phases != PHASES:
        used = " and ".join(layer.phases) or "no phase"
        raise _refusal(
            layer,
            f"layer {layer.name!r} used in {used} only",
            "a layer that both phases use",
            "Its split would be trained but not tested, or the reverse.",
        )


def _check_params(layer: Layer) -> None:
    if layer.shared_params:
        raise _refusal(
            layer,
            f"layer {layer.name!r} with shared params ({', '.join(layer.shared_params)})",
            "parameters of its own",
            "Remove `param { name: … }`, here and where it is shared, if each may have its own.",
        )


def _check_blobs(
    net: Net, layer: Layer, weights: Mapping[str, Sequence[npt.NDArray[np.float32]]]
) -> None:
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
    parameter = layer.message.convolution_param
    kernels = parameter.num_output // layer.group
    if kernels < 2:
        per_group = " per group" if parameter.group > 1 else ""
        raise _refusal(
            layer,
            f"layer {layer.name!r} with {kernels} kernel{per_group}",
            f"two kernels{per_group} at least, one fast and one slow",
        )


def _refusal(layer: Layer, found: str, expected: str = "", remedy: str = "") -> SplitError:
    return SplitError(found, expected, remedy or "Choose another layer.", layer.location)


def _place(net: Net) -> Location | None:
    location = net.layers[0].location
    return Location(location.path) if location else None
