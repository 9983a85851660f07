"""How a layer's kernels lie over its bottom: what has to be equal where kernels change places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from caffesplit.errors import SplitError
from caffesplit.net.graph import Layer
from caffesplit.split.kernels import Array
from caffesplit.split.linear import Axis

PARAMETERS = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}
"""The message that holds a layer's geometry, by the types that can be split."""


@dataclass(frozen=True)
class Geometry:
    """The layout of a layer with kernels (N, C/G, *K): a Convolution, or an InnerProduct (N, K)."""

    type: str
    num_output: int
    bias_term: bool
    axes: tuple[Axis, ...] = ()
    """One for each spatial axis of the kernels; an InnerProduct has none."""
    group: int = 1
    axis: int = 1
    """Where the bottom's channels are; an InnerProduct reads this axis and all behind it."""
    transpose: bool = False
    """Whether the weight blob of an InnerProduct is (K, N)."""

    @property
    def channel_axis(self) -> int:
        """Where the top's channels are: the last axis of an InnerProduct's top."""
        return self.axis if self.axis >= 0 else -1

    @property
    def kernel_axis(self) -> int:
        """The axis of both blobs, as Caffe stores them, that counts the kernels."""
        return -1 if self.transpose else 0

    @property
    def described(self) -> dict[str, str]:
        """Its fields by the names that they have in a prototxt, as texts."""
        lists = {
            name: [str(getattr(axis, attribute)) for axis in self.axes]
            for name, attribute in (
                ("kernel_size", "kernel"),
                ("stride", "stride"),
                ("pad", "pad"),
                ("dilation", "dilation"),
            )
        }
        own = {name: str(value).lower() for name, value in vars(self).items() if name != "axes"}
        return own | {"type": self.type} | {name: " ".join(each) for name, each in lists.items()}

    def turned(self, weight: Array) -> Array:
        """Kernels (N, C/G, *K) from the weight blob that Caffe stores, or the reverse."""
        return np.ascontiguousarray(weight.T) if self.transpose else weight


def read(layer: Layer, spatial_axes: int) -> Geometry:
    """The geometry of a layer of a type that can be split, whose kernels have so many axes.

    Raises:
        SplitError: if Caffe would refuse it.
    """
    parameter = getattr(layer.message, PARAMETERS[layer.type])
    if layer.type == "InnerProduct":
        return Geometry(
            layer.type,
            parameter.num_output,
            parameter.bias_term,
            axis=parameter.axis,
            transpose=parameter.transpose,
        )
    group = layer.group
    if parameter.num_output % group:
        raise SplitError(
            f"layer {layer.name!r} with num_output {parameter.num_output} in {group} groups",
            "groups of one size",
            "`caffesplit check` names all that is wrong with a net.",
            layer.location,
        )
    return Geometry(
        layer.type,
        parameter.num_output,
        parameter.bias_term,
        tuple(_axes(layer, parameter, spatial_axes)),
        group,
        parameter.axis,
    )


def _axes(layer: Layer, parameter: Any, count: int) -> Iterator[Axis]:
    """BaseConvolutionLayer::LayerSetUp (src/caffe/layers/base_conv_layer.cpp)."""
    values = []
    for name, stem, default, least in (
        ("kernel_size", "kernel", 0, 1),
        ("stride", "stride", 1, 1),
        ("pad", "pad", 0, 0),
        ("dilation", "dilation", 1, 1),
    ):
        given = list(getattr(parameter, name)) or [default]
        if stem != "dilation" and any(parameter.HasField(f"{stem}_{side}") for side in "hw"):
            given = [getattr(parameter, f"{stem}_{side}") for side in "hw"]
        if len(given) == 1:
            given *= count
        if len(given) != count or min(given, default=least) < least:
            raise SplitError(
                f"layer {layer.name!r} with {name} {', '.join(map(str, given))}",
                f"{least} or more, once or for each of its {count} spatial axes",
                "`caffesplit check` names all that is wrong with a net.",
                layer.location,
            )
        values.append(given)
    for kernel, stride, pad, dilation in zip(*values, strict=True):
        yield Axis(kernel, stride, pad, dilation)
