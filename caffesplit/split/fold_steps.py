"""Which layers are linear in TEST, and the maps they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caffesplit.errors import SplitError
from caffesplit.net.evaluate import statistics
from caffesplit.net.graph import Layer
from caffesplit.split import geometry, linear
from caffesplit.split.geometry import PARAMETERS
from caffesplit.split.linear import Blob, Linear, UnfoldableError

CHANNELWISE = ("BatchNorm", "Scale", "Bias")
"""Layers of learned factors and shifts, one per channel."""

CONVOLVING = tuple(PARAMETERS)
"""Layers of kernels: what a block of linear layers can become."""


JOINS = ("Concat", "Eltwise")
"""Layers that join branches."""


@dataclass(frozen=True)
class Step:
    """A linear layer with one bottom, as far as its own definition and weights tell.

    `map(channels, axes, top)` is what it computes for one of its tops, of a bottom with so many
    channels and spatial axes; `channels` and `axes` are those that it asks for, and
    `channel_axis` is where it expects and leaves the channels; None for any.
    Of any, `read(made, top)` tells how many channels it reads where a top has so many.
    """

    map: Callable[[int, int, int], Linear]
    channels: int | None = None
    axes: int | None = None
    channel_axis: int | None = None
    read: Callable[[int, int], int | None] = lambda made, top: made


def step(layer: Layer, blobs: Sequence[Blob]) -> Step:
    """The map that a layer computes in TEST.

    Raises:
        UnfoldableError: if it is not linear, or one that cannot be folded; the text says why.
    """
    if layer.type in JOINS:
        raise UnfoldableError("its branches stay branches")
    if layer.type not in STEPS:
        raise UnfoldableError("it is not linear")
    if len(layer.bottoms) != 1:
        raise UnfoldableError(f"it has {len(layer.bottoms)} bottoms")
    if layer.shared_params:
        raise UnfoldableError(f"its params are shared ({', '.join(layer.shared_params)})")
    if layer.message.loss_weight:
        raise UnfoldableError("it has a loss_weight")
    try:
        return STEPS[layer.type](layer, blobs)
    except SplitError as error:  # A geometry that Caffe would refuse.
        raise UnfoldableError(error.found) from None


def _convolution(layer: Layer, blobs: Sequence[Blob]) -> Step:
    if layer.message.convolution_param.axis != 1:
        raise UnfoldableError("its channels are not on axis 1")
    weight, *bias = _learned(layer, blobs)
    axes = geometry.read(layer, weight.ndim - 2).axes
    own = linear.convolution(weight, bias[0] if bias else None, layer.group, axes)
    return Step(lambda channels, axes, top: own, own.channels, len(own.axes), 1)


def _inner_product(layer: Layer, blobs: Sequence[Blob]) -> Step:
    weight, *bias = _learned(layer, blobs)
    weight = weight.reshape(weight.shape[-2:])
    weight = weight.T if layer.message.inner_product_param.transpose else weight
    own = linear.convolution(weight, bias[0] if bias else None, 1, ())
    axis = layer.message.inner_product_param.axis
    return Step(lambda channels, axes, top: own, own.channels, 0, axis if axis >= 0 else -1)


def _batch_norm(layer: Layer, blobs: Sequence[Blob]) -> Step:
    parameter = layer.message.batch_norm_param
    if parameter.HasField("use_global_stats") and not parameter.use_global_stats:
        raise UnfoldableError("it takes the batch's own statistics in TEST too")
    scale, shift = statistics(layer, _learned(layer, blobs))
    return _per_channel(scale, shift)


def _scale(layer: Layer, blobs: Sequence[Blob]) -> Step:
    parameter = layer.message.scale_param
    if parameter.axis != 1 or parameter.num_axes != 1:
        raise UnfoldableError("it does not scale per channel")
    factors, *shift = (np.asarray(blob, np.float64) for blob in _learned(layer, blobs))
    return _per_channel(factors, shift[0] if shift else np.zeros_like(factors))


def _bias(layer: Layer, blobs: Sequence[Blob]) -> Step:
    parameter = layer.message.bias_param
    if parameter.axis != 1 or parameter.num_axes != 1:
        raise UnfoldableError("it does not add one value per channel")
    shift = np.asarray(_learned(layer, blobs)[0], np.float64)
    return _per_channel(np.ones_like(shift), shift)


def _power(layer: Layer, blobs: Sequence[Blob]) -> Step:
    parameter = layer.message.power_param
    if parameter.power != 1:
        raise UnfoldableError(f"its power is {parameter.power:g}")
    return Step(
        lambda channels, axes, top: linear.diagonal(
            np.full(channels, float(parameter.scale)),
            np.full(channels, float(parameter.shift)),
            axes,
        )
    )


def _slice(layer: Layer, blobs: Sequence[Blob]) -> Step:
    parameter = layer.message.slice_param
    if (parameter.slice_dim if parameter.HasField("slice_dim") else parameter.axis) != 1:
        raise UnfoldableError("it does not slice the channels")

    points, count = list(parameter.slice_point), len(layer.tops)

    def selected(channels: int, axes: int, top: int) -> Linear:
        share = channels // count
        bounds = [0, *(points or range(share, channels, share)), channels]
        return linear.selection(range(bounds[top], bounds[top + 1]), channels, axes)

    def read(made: int, top: int) -> int | None:
        if not points:
            return made * count
        return points[-1] + made if top == count - 1 else None

    return Step(selected, channel_axis=1, read=read)


def _split(layer: Layer, blobs: Sequence[Blob]) -> Step:
    return Step(lambda channels, axes, top: linear.identity(channels, axes))


def _per_channel(scale: linear.Matrix, shift: linear.Matrix) -> Step:
    scale, shift = scale.reshape(-1), shift.reshape(-1)
    return Step(
        lambda channels, axes, top: linear.diagonal(scale, shift, axes),
        len(scale),
        channel_axis=1,
    )


def _learned(layer: Layer, blobs: Sequence[Blob]) -> Sequence[Blob]:
    if not blobs:
        raise UnfoldableError("the weight file has no weights of it")
    return blobs


STEPS: Mapping[str, Callable[[Layer, Sequence[Blob]], Step]] = {
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Convolution": _convolution,
    "InnerProduct": _inner_product,
    "Power": _power,
    "Scale": _scale,
    "Slice": _slice,
    "Split": _split,
}
