"""What layers cost: learned parameters, and multiply-accumulates (MACs) of one image.

Parameters are all values in a layer's blobs, as Caffe keeps them (three blobs for a BatchNorm).
MACs are those of convolutions and inner products; what else a net computes is little beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from caffesplit.formats import schema
from caffesplit.metric.history import KERNEL_TYPES
from caffesplit.net.blobs import LEARNING_NOTHING
from caffesplit.net.graph import Layer
from caffesplit.net.partial import Partial, count
from caffesplit.net.shapes import Shapes

RECURRENT = ("LSTM", "RNN")
"""They multiply once for each step of a sequence, which is no image."""


@dataclass(frozen=True)
class Cost:
    """Parameters and MACs of a layer or net; None where the shapes do not tell."""

    params: int | None
    macs: int | None


@dataclass(frozen=True)
class Total:
    """The sum of what is known, and whether that is all."""

    params: int
    macs: int
    all_params: bool
    all_macs: bool


def layer_cost(shapes: Shapes, index: int) -> Cost:
    """The cost of layer `index` of the net, which is present in the shapes' state."""
    sizes = _blob_sizes(shapes, index)
    params = None if sizes is None or None in sizes else sum(size or 0 for size in sizes)
    return Cost(params, _macs(shapes, index, sizes[0] if sizes else None))


def total(shapes: Shapes) -> Total:
    """The cost of the net in the shapes' state; parameters that layers share count once."""
    params: list[int | None] = []
    shared: set[str] = set()
    for index in shapes.tops:
        sizes = _blob_sizes(shapes, index)
        params += [None] if sizes is None else _first_of(shapes.net.layers[index], sizes, shared)
    macs = [layer_cost(shapes, index).macs for index in shapes.tops]
    return Total(_sum(params), _sum(macs), None not in params, None not in macs)


def _first_of(layer: Layer, sizes: list[int | None], shared: set[str]) -> Iterable[int | None]:
    """The sizes of blobs that no earlier layer has under the same name (`param { name }`)."""
    for position, size in enumerate(sizes):
        name = _param_name(layer, position)
        if name not in shared:
            yield size
        shared |= {name} - {""}


def _param_name(layer: Layer, position: int) -> str:
    params = layer.message.param
    if position >= len(params):
        return ""
    spec: Any = params[position]
    is_spec = isinstance(layer.message, schema.message_class("LayerParameter"))
    return spec.name if is_spec else spec


def _blob_sizes(shapes: Shapes, index: int) -> list[int | None] | None:
    """The number of values in each blob of a layer; None for a type whose blobs are not known."""
    patterns = shapes.learned(index)
    if patterns is None:
        return None
    return [
        count([dim if isinstance(dim, int) else None for dim in pattern]) for pattern in patterns
    ]


def _macs(shapes: Shapes, index: int, weights: int | None) -> int | None:
    layer = shapes.net.layers[index]
    if layer.type in LEARNING_NOTHING or (
        layer.type not in KERNEL_TYPES and layer.type not in RECURRENT and shapes.learned(index)
    ):
        return 0
    positions = _positions(shapes, index) if layer.type in KERNEL_TYPES else None
    return None if weights is None or positions is None else weights * positions


def _positions(shapes: Shapes, index: int) -> int | None:
    """How many times per image a layer applies its weights."""
    layer = shapes.net.layers[index]
    if index not in shapes.settled:
        return None
    if layer.type == "InnerProduct":
        bottom = shapes.bottoms[index][0]
        return _per_image(bottom, layer.message.inner_product_param.axis, behind=False)
    axis = layer.message.convolution_param.axis
    sides = shapes.bottoms if layer.type == "Deconvolution" else shapes.tops
    each = [_per_image(blob, axis, behind=True) for blob in sides[index]]
    return None if None in each else sum(size or 0 for size in each)


def _per_image(blob: Partial | None, axis: int, behind: bool) -> int | None:
    """The product of the sizes around the channel axis, of which the first counts images."""
    if blob is None:
        return None
    axis %= len(blob)
    return count((*blob[1:axis], *(blob[axis + 1 :] if behind else ())))


def _sum(values: Iterable[int | None]) -> int:
    return sum(value or 0 for value in values)
