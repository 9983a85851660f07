"""Layers that move values, choose among them or join them.

Sources: src/caffe/layers of each type (Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor

from caffesplit.engines.torch_layers_setup import (
    Build,
    Forward,
    Setup,
    Tensors,
    axis_of,
    elementwise,
    top_shapes,
)
from caffesplit.net.shape_rules import RULES


def _reshaped(setup: Setup) -> Forward:
    """Flatten and Reshape."""
    shapes = top_shapes(setup, RULES[setup.layer.type])
    return lambda bottoms, blobs: (bottoms[0].reshape(shapes(bottoms)[0]),)


def _old_or_new_axis(setup: Setup, name: str, old: str) -> int:
    parameter = getattr(setup.message, name)
    axis = getattr(parameter, old) if parameter.HasField(old) else parameter.axis
    return axis_of(setup.bottoms[0], axis)


def _concat(setup: Setup) -> Forward:
    axis = _old_or_new_axis(setup, "concat_param", "concat_dim")
    return lambda bottoms, blobs: (torch.cat(tuple(bottoms), axis),)


def _slice(setup: Setup) -> Forward:
    axis = _old_or_new_axis(setup, "slice_param", "slice_dim")
    shapes = top_shapes(setup, RULES["Slice"])

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        return bottoms[0].split([shape[axis] for shape in shapes(bottoms)], axis)

    return forward


def _split(setup: Setup) -> Forward:
    return lambda bottoms, blobs: (bottoms[0],) * len(setup.layer.tops)


def _tile(setup: Setup) -> Forward:
    parameter = setup.message.tile_param
    axis = axis_of(setup.bottoms[0], parameter.axis)
    return elementwise(lambda x: torch.cat([x] * parameter.tiles, axis))


def _crop(setup: Setup) -> Forward:
    parameter, axes = setup.message.crop_param, len(setup.bottoms[0])
    start = axis_of(setup.bottoms[0], parameter.axis)
    offsets = list(parameter.offset) or [0]
    offsets = offsets if len(offsets) > 1 else offsets * (axes - start)

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        top, reference = bottoms
        for axis, offset in enumerate(offsets, start):
            top = top.narrow(axis, offset, reference.shape[axis])
        return (top,)

    return forward


def _filter(setup: Setup) -> Forward:
    """The items that the last bottom selects."""

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        *filtered, selector = bottoms
        selected = selector.detach().reshape(-1).nonzero()[:, 0]
        return [bottom.index_select(0, selected) for bottom in filtered]

    return forward


def _batch_reindex(setup: Setup) -> Forward:
    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x, indices = bottoms[0], bottoms[1].detach().long()
        expect_below(setup, "index", indices, x.shape[0])
        return (x.index_select(0, indices),)

    return forward


def expect_below(setup: Setup, noun: str, indices: Tensor, count: int, remedy: str = "") -> None:
    """Refuse indices outside [0, count). On a GPU, that would cost a wait; the device refuses."""
    if indices.is_cpu and indices.numel():
        least, most = (int(each) for each in indices.aminmax())
        if least < 0 or most >= count:
            wrong = least if least < 0 else most
            raise setup.refuse(f"{noun} {wrong} in its bottom", f"0 to {count - 1}", remedy)


def _eltwise(setup: Setup) -> Forward:
    parameter = setup.message.eltwise_param
    if parameter.operation == parameter.PROD:
        return lambda bottoms, blobs: (reduce(torch.mul, bottoms),)
    if parameter.operation == parameter.MAX:
        return lambda bottoms, blobs: (_maximum(bottoms),)
    coefficients = list(parameter.coeff)
    if all(coefficient == 1 for coefficient in coefficients):
        return lambda bottoms, blobs: (reduce(torch.add, bottoms),)

    def weighted_sum(bottoms: Tensors, blobs: Tensors) -> Tensors:
        total = bottoms[0] * coefficients[0]
        for bottom, coefficient in zip(bottoms[1:], coefficients[1:], strict=True):
            total = total.add(bottom, alpha=coefficient)
        return (total,)

    return weighted_sum


def _maximum(bottoms: Tensors) -> Tensor:
    """Of equal values, the second of the first two bottoms counts, then the earlier one."""
    first, second, *others = bottoms
    top = torch.where(first > second, first, second)
    for other in others:
        top = torch.where(other > top, other, top)
    return top


def _reduction(setup: Setup) -> Forward:
    parameter = setup.message.reduction_param
    axis = axis_of(setup.bottoms[0], parameter.axis)
    operation, coefficient = parameter.operation, parameter.coeff

    def reduced(x: Tensor) -> Tensor:
        x = x.flatten(axis)
        if operation == parameter.SUM:
            total = x.sum(-1)
        elif operation == parameter.ASUM:
            total = x.abs().sum(-1)
        elif operation == parameter.SUMSQ:
            total = x.square().sum(-1)
        else:
            total = x.mean(-1)
        return total * coefficient

    return elementwise(reduced)


def _argmax(setup: Setup) -> Forward:
    """The top_k largest values or their indices. Of equal values, the last comes first."""
    parameter = setup.message.argmax_param
    count, with_values = parameter.top_k, parameter.out_max_val
    has_axis = parameter.HasField("axis")
    shapes = top_shapes(setup, RULES["ArgMax"])
    axis = axis_of(setup.bottoms[0], parameter.axis) if has_axis else 1

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x = bottoms[0].detach()
        x = x if has_axis else x.flatten(1)
        values, order = x.flip(axis).sort(dim=axis, descending=True, stable=True)
        values = values.narrow(axis, 0, count)
        indices = (x.shape[axis] - 1 - order.narrow(axis, 0, count)).to(x.dtype)
        if has_axis:
            top = values if with_values else indices
        else:
            top = torch.stack((indices, values), 1) if with_values else indices
        return (top.reshape(shapes(bottoms)[0]),)

    return forward


def _silence(setup: Setup) -> Forward:
    return lambda bottoms, blobs: ()


SHAPES: Mapping[str, Build] = {
    "ArgMax": _argmax,
    "BatchReindex": _batch_reindex,
    "Concat": _concat,
    "Crop": _crop,
    "Eltwise": _eltwise,
    "Filter": _filter,
    "Flatten": _reshaped,
    "Reduction": _reduction,
    "Reshape": _reshaped,
    "Silence": _silence,
    "Slice": _slice,
    "Split": _split,
    "Tile": _tile,
}
