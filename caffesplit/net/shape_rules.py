"""Shapes of a layer's tops, given its bottoms': a rule for each type that has bottoms.

A rule takes the layer and its bottoms' shapes, each with a known number of axes, and gives the
tops' shapes; it raises Refused for what Caffe does not take. Layers that are at fault by
themselves (`layer_rules`) never get here.

Sources: LayerSetUp and Reshape of each type in src/caffe/layers (Caffe 1.0; Clip, Swish since).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from caffesplit.formats import schema
from caffesplit.net.graph import Layer
from caffesplit.net.partial import (
    LEGACY_AXES,
    Partial,
    Refused,
    Size,
    agree,
    axis_of,
    count,
    differ,
    expect_axes,
    legacy_size,
    merged,
    shown,
)
from caffesplit.net.shape_losses import LOSSES
from caffesplit.net.shape_recurrent import lstm_unit, recurrent
from caffesplit.net.shape_windows import convolution, im2col, pooling, spp

Rule = Callable[[Layer, Sequence[Partial]], tuple[Partial, ...]]


def _same(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    return (bottoms[0],) * len(layer.tops)


def _batch_norm(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    expect_axes(bottoms[0], 2)
    return (bottoms[0],)


def _prelu(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    expect_axes(bottoms[0], 2, LEGACY_AXES)
    return (bottoms[0],)


def _softmax(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    axis_of(bottoms[0], layer.message.softmax_param.axis)
    return (bottoms[0],)


def _lrn(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    expect_axes(bottoms[0], 4, 4)
    return (bottoms[0],)


def _mvn(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """Always four axes."""
    return (tuple(legacy_size(bottoms[0], axis) for axis in range(4)),)


def _argmax(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    argmax, (bottom,) = layer.message.argmax_param, bottoms
    expect_axes(bottom, 1)
    if argmax.HasField("axis"):
        axis = axis_of(bottom, argmax.axis)
        classes, top = bottom[axis], (*bottom[:axis], argmax.top_k, *bottom[axis + 1 :])
    else:
        classes = count(bottom[1:])
        kinds = 2 if argmax.out_max_val else 1
        top = (bottom[0], kinds, argmax.top_k, *(1,) * (len(bottom) - 3))
    if classes is not None and not 1 <= argmax.top_k <= classes:
        message = f"top_k {argmax.top_k} of a bottom {shown(bottom)}"
        raise Refused("top-k", f"{message}, expected 1 to {classes}")
    return (top,)


def _concat(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    axis = _old_or_new_axis(layer, bottoms[0], "concat_param", "concat_dim")
    top, sizes = bottoms[0], [bottoms[0][axis]]
    for other in bottoms[1:]:
        if len(top) != len(other) or not agree(_without(top, axis), _without(other, axis)):
            message = f"bottoms {shown(top)} and {shown(other)}"
            raise Refused("equal-shapes", f"{message}, expected equal ones but for axis {axis}")
        top, sizes = merged(top, other), [*sizes, other[axis]]
    known = [size for size in sizes if size is not None]
    total = sum(known) if len(known) == len(sizes) else None
    return ((*top[:axis], total, *top[axis + 1 :]),)


def _slice(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    (bottom,), tops = bottoms, len(layer.tops)
    axis = _old_or_new_axis(layer, bottom, "slice_param", "slice_dim")
    points, size = list(layer.message.slice_param.slice_point), bottom[axis]
    sizes: list[Size]
    if points:
        if len(points) != tops - 1:
            message = f"{len(points)} slice_point for {tops} tops, expected {tops - 1}"
            raise Refused("slices", message)
        edges = [0, *points]
        if any(a >= b for a, b in zip(edges, points, strict=False)) or (
            size is not None and points[-1] >= size
        ):
            message = f"slice_point {', '.join(map(str, points))} on axis {axis} of {shown(bottom)}"
            raise Refused("slices", f"{message}, expected ascending ones inside it")
        sizes = [b - a for a, b in zip(edges, points, strict=False)]
        sizes.append(None if size is None else size - points[-1])
    else:
        if size is not None and size % tops:
            message = f"{tops} tops do not divide axis {axis} of {shown(bottom)}"
            raise Refused("slices", f"{message}, expected that they do, or slice_point")
        sizes = [None if size is None else size // tops] * tops
    return tuple((*bottom[:axis], part, *bottom[axis + 1 :]) for part in sizes)


def _eltwise(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    top = bottoms[0]
    for other in bottoms[1:]:
        if not agree(top, other):
            message = f"bottoms {shown(top)} and {shown(other)}, expected equal shapes"
            raise Refused("equal-shapes", message)
        top = merged(top, other)
    return (top,)


def _flatten(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """An end_axis right before axis puts in an axis of size 1. Old nets have no flatten_param."""
    (bottom,) = bottoms
    flatten = getattr(layer.message, "flatten_param", schema.message_class("FlattenParameter")())
    start, end = axis_of(bottom, flatten.axis), axis_of(bottom, flatten.end_axis) + 1
    if start > end:
        message = f"axis {start} behind end_axis {end - 1}, expected it before or at that"
        raise Refused("existing-axes", message)
    return ((*bottom[:start], count(bottom[start:end]), *bottom[end:]),)


def _reshape(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    reshape, (bottom,) = layer.message.reshape_param, bottoms
    new = tuple(reshape.shape.dim)
    start = reshape.axis if reshape.axis >= 0 else len(bottom) + reshape.axis + 1
    end = len(bottom) if reshape.num_axes == -1 else start + reshape.num_axes
    if not 0 <= start <= end <= len(bottom):
        message = f"axis {reshape.axis} with num_axes {reshape.num_axes} of a bottom"
        raise Refused("existing-axes", f"{message} {shown(bottom)}, expected such as it has")
    if new.count(-1) > 1 or min(new, default=0) < -1:
        message = f"a new shape {shown(new)}, expected sizes, 0 to copy and at most one -1"
        raise Refused("reshapes", message)
    if any(size == 0 and start + axis >= len(bottom) for axis, size in enumerate(new)):
        message = f"a new shape {shown(new)} from axis {start} on copies an axis"
        raise Refused("reshapes", f"{message} that the bottom {shown(bottom)} does not have")
    middle = tuple(bottom[start + axis] if size == 0 else size for axis, size in enumerate(new))
    top = (*bottom[:start], *middle, *bottom[end:])
    total = count(bottom)
    if -1 in new:
        inferred = start + new.index(-1)
        others = count(_without(top, inferred))
        if total is not None and others is not None and (others == 0 or total % others):
            message = f"a bottom {shown(bottom)} of {total:,} values"
            raise Refused("reshapes", f"{message}, expected a multiple of {others:,}")
        size = None if total is None or others is None else total // others
        return ((*top[:inferred], size, *top[inferred + 1 :]),)
    if differ(total, count(top)):
        message = f"a bottom {shown(bottom)} reshaped to {shown(top)}"
        raise Refused("reshapes", f"{message}, expected as many values")
    return (top,)


def _reduction(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    (bottom,) = bottoms
    return (bottom[: axis_of(bottom, layer.message.reduction_param.axis)],)


def _tile(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    tile, (bottom,) = layer.message.tile_param, bottoms
    axis = axis_of(bottom, tile.axis)
    if tile.tiles < 1:
        raise Refused("tiles", f"tiles is missing or {tile.tiles}, expected 1 or more")
    size = bottom[axis]
    return ((*bottom[:axis], None if size is None else size * tile.tiles, *bottom[axis + 1 :]),)


def _crop(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    (bottom, reference), crop = bottoms, layer.message.crop_param
    start, offsets = axis_of(bottom, crop.axis), tuple(crop.offset)
    axes = len(bottom) - start
    if len(offsets) not in (0, 1, axes):
        message = f"{len(offsets)} offsets for {axes} axes from axis {start} on"
        raise Refused("crops", f"{message}, expected one, or one for each")
    offsets = offsets if len(offsets) == axes else (offsets or (0,)) * axes
    expect_axes(reference, len(bottom))
    window = reference[start : len(bottom)]
    for size, offset, cropped in zip(bottom[start:], offsets, window, strict=True):
        if size is not None and cropped is not None and size - offset < cropped:
            message = f"a crop to {shown(window)} at {shown(offsets)}"
            raise Refused("crops", f"{message}, expected one inside {shown(bottom[start:])}")
    return ((*bottom[:start], *window),)


def _embed(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    return ((*bottoms[0], layer.message.embed_param.num_output),)


def _inner_product(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    inner_product, (bottom,) = layer.message.inner_product_param, bottoms
    return ((*bottom[: axis_of(bottom, inner_product.axis)], inner_product.num_output),)


def _batch_reindex(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    bottom, indices = bottoms
    expect_axes(bottom, 1)
    expect_axes(indices, 1, 1)
    return ((indices[0], *bottom[1:]),)


def _filter(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """How many items pass is known only from the values."""
    *filtered, selector = bottoms
    for bottom in bottoms:
        expect_axes(bottom, 1)
    for bottom in filtered:
        if differ(bottom[0], selector[0]) or any(differ(size, 1) for size in selector[1:]):
            message = f"a selector {shown(selector)} for a bottom {shown(bottom)}"
            raise Refused("equal-shapes", f"{message}, expected one value for each item")
    return tuple((None, *bottom[1:]) for bottom in filtered)


def _scale(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """Scale and Bias: by the second bottom, or by a learned blob over some of the axes."""
    scale = layer.message.bias_param if layer.type == "Bias" else layer.message.scale_param
    bottom, *others = bottoms
    if others == [()] and not getattr(scale, "bias_term", False):
        return (bottom,)
    axis = axis_of(bottom, scale.axis)
    axes = len(others[0]) if others else scale.num_axes
    if axes < -1 or axis + axes > len(bottom):
        message = f"{axes} axes from axis {axis} on of a bottom {shown(bottom)}"
        raise Refused("existing-axes", f"{message}, expected such as it has")
    if others and not agree(bottom[axis : axis + axes], others[0]):
        message = f"a second bottom {shown(others[0])} for axis {axis} and on of {shown(bottom)}"
        raise Refused("equal-shapes", f"{message}, expected equal sizes")
    return (bottom,)


def _nothing(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    return ()


def _old_or_new_axis(layer: Layer, bottom: Partial, name: str, old: str) -> int:
    """`axis`, or in its place the field it had before 2015, which does not count from the end."""
    given = getattr(layer.message, name)
    if not given.HasField(old):
        return axis_of(bottom, given.axis)
    if given.HasField("axis"):
        raise Refused("existing-axes", f"axis beside {old}, expected one of the two")
    return axis_of(bottom, getattr(given, old))


def _without(shape: Partial, axis: int) -> Partial:
    return shape[:axis] + shape[axis + 1 :]


_SAME = "AbsVal BNLL Clip Dropout ELU Exp Log Power ReLU Sigmoid Split Swish TanH Threshold"

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_SAME.split(), _same),
    **LOSSES,
    "ArgMax": _argmax,
    "BatchNorm": _batch_norm,
    "BatchReindex": _batch_reindex,
    "Bias": _scale,
    "Concat": _concat,
    "Convolution": convolution,
    "Crop": _crop,
    "Deconvolution": convolution,
    "Eltwise": _eltwise,
    "Embed": _embed,
    "Filter": _filter,
    "Flatten": _flatten,
    "HDF5Output": _nothing,
    "Im2col": im2col,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "LSTM": recurrent,
    "LSTMUnit": lstm_unit,
    "MVN": _mvn,
    "Pooling": pooling,
    "PReLU": _prelu,
    "Reduction": _reduction,
    "Reshape": _reshape,
    "RNN": recurrent,
    "Scale": _scale,
    "Silence": _nothing,
    "Slice": _slice,
    "Softmax": _softmax,
    "SPP": spp,
    "Tile": _tile,
}
"""Every type with bottoms whose code Caffe has; a Python layer's shapes are its own."""
