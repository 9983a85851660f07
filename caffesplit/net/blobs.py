"""The blobs of learned values that a layer has, as far as its definition and its bottoms say.

Sources: LayerSetUp of each type in src/caffe/layers, FillUnrolledNet of LSTM and RNN (Caffe 1.0);
Blob::ShapeEquals in src/caffe/blob.cpp for shapes in old files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from caffesplit.formats import schema
from caffesplit.formats.blobs import MAX_AXES, MAX_COUNT
from caffesplit.net.graph import Layer
from caffesplit.net.partial import LEGACY_AXES, Partial, Size, count
from caffesplit.net.shape_recurrent import has_static
from caffesplit.net.shape_windows import sides

Shape = tuple[int, ...]
Dim = int | range
Pattern = tuple[Dim, ...]
"""A shape, or for dimensions that are not fixed, the range of what they may be."""

ANY = range(1, MAX_COUNT + 1)
NO_BOTTOMS: tuple[Partial | None, ...] = (None, None, None)
"""What stands for bottoms of which nothing is known; no rule looks at more."""


def expected_blobs(
    layer: Layer, found: Sequence[Shape] = (), bottoms: Sequence[Partial | None] = NO_BOTTOMS
) -> tuple[Pattern, ...] | None:
    """The shapes of a layer's blobs in order, or None for a type whose blobs are not known.

    Args:
        layer: what the blobs belong to.
        found: shapes in a weight file, which tell the number of axes where `bottoms` do not.
        bottoms: the shapes of the layer's bottoms, such as Caffe takes (`net.shapes`).
    """
    if layer.type in LEARNING:
        return LEARNING[layer.type](layer, found, bottoms)
    return () if layer.type in LEARNING_NOTHING else None


def fits(shape: Shape, pattern: Pattern, legacy: bool | None = None) -> bool:
    """Whether Caffe loads a blob of this shape.

    `legacy` tells whether the shape stands in the file as num, channels, height and width, which
    Caffe compares from the end, as if the blob had leading axes of size 1; None if that is not
    known of a shape of four axes.
    """
    if legacy is not False and len(shape) == LEGACY_AXES > len(pattern):
        pattern = (1,) * (LEGACY_AXES - len(pattern)) + pattern
    return len(shape) == len(pattern) and all(
        size in dim if isinstance(dim, range) else size == dim
        for size, dim in zip(shape, pattern, strict=True)
    )


def may_share(one: Pattern, other: Pattern, permissive: bool) -> bool:
    """Whether two blobs may have the same values, as far as their shapes are known."""
    if permissive:
        sizes = [[dim for dim in pattern if isinstance(dim, int)] for pattern in (one, other)]
        known = [len(sizes[0]) == len(one), len(sizes[1]) == len(other)]
        return not all(known) or prod(sizes[0]) == prod(sizes[1])
    return len(one) == len(other) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int))
        for a, b in zip(one, other, strict=True)
    )


def described(pattern: Pattern) -> str:
    """As a shape is written: (6, any, 3, 3)."""
    dims = ", ".join(map(_described, pattern))
    return f"({dims},)" if len(pattern) == 1 else f"({dims})"


def _described(dim: Dim) -> str:
    if isinstance(dim, int):
        return str(dim)
    return "any" if dim.step == 1 else f"a multiple of {dim.step}"


Found = Sequence[Shape]
Bottoms = Sequence[Partial | None]


def _convolution(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    """(N, C/G, *K); (C, N/G, *K) for a Deconvolution; (N,)."""
    parameter, bottom = layer.message.convolution_param, bottoms[0]
    num_output, group = parameter.num_output, max(parameter.group, 1)
    channels: Size = None
    if bottom is None:
        spatial_axes = len(found[0]) - 2 if found and len(found[0]) >= 2 else 2
        kernel = _kernel(parameter, spatial_axes)
    else:
        axis = parameter.axis % len(bottom)
        channels, kernel = bottom[axis], sides(parameter, "kernel", len(bottom) - axis - 1)
    if layer.type == "Deconvolution":
        multiples = range(group, MAX_COUNT + 1, group)
        first: tuple[Dim, Dim] = (multiples if channels is None else channels, num_output // group)
    else:
        first = (num_output, ANY if channels is None else channels // group)
    return _with_bias(parameter, (*first, *kernel))


def _kernel(parameter: Any, spatial_axes: int) -> tuple[int, ...]:
    """The kernel's extents, whether or not they are as many as the axes."""
    if parameter.HasField("kernel_h") or parameter.HasField("kernel_w"):
        return (parameter.kernel_h, parameter.kernel_w)
    sizes = tuple(parameter.kernel_size)
    return sizes * spatial_axes if len(sizes) == 1 else sizes


def _inner_product(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    parameter, bottom = layer.message.inner_product_param, bottoms[0]
    inputs, outputs = _inputs(bottom, parameter.axis), parameter.num_output
    return _with_bias(parameter, (inputs, outputs) if parameter.transpose else (outputs, inputs))


def _embed(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    parameter = layer.message.embed_param
    return _with_bias(parameter, (parameter.input_dim, parameter.num_output))


def _with_bias(parameter: Any, weight: Pattern) -> tuple[Pattern, ...]:
    return (weight, (parameter.num_output,)) if parameter.bias_term else (weight,)


def _scale(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    """A second bottom takes the place of the learned scale; the bias is as large as the scale."""
    parameter = layer.message.scale_param
    if len(layer.bottoms) > 1:
        second = bottoms[1]
        axes = -1 if second is None else len(second)
        bottom = bottoms[0] if second is not None else None
        return (_axes(parameter.axis, axes, found, bottom),) if parameter.bias_term else ()
    scale = _axes(parameter.axis, parameter.num_axes, found, bottoms[0])
    bias = found[0] if found and fits(found[0], scale) else scale
    return (scale, bias) if parameter.bias_term else (scale,)


def _bias(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    if len(layer.bottoms) > 1:
        return ()
    parameter = layer.message.bias_param
    return (_axes(parameter.axis, parameter.num_axes, found, bottoms[0]),)


def _axes(axis: int, num_axes: int, found: Found, bottom: Partial | None) -> Pattern:
    """So many axes of the bottom, from `axis` on; -1 for all that follow."""
    if bottom is not None:
        behind = bottom[axis % len(bottom) :] if bottom else ()
        return tuple(map(_dim, behind if num_axes < 0 else behind[:num_axes]))
    if num_axes < 0:
        num_axes = len(found[0]) if found else 1
    return (ANY,) * min(num_axes, MAX_AXES)


def _batch_norm(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    """Sums of means and of variances, and the factor they are divided by."""
    mean = variance = _channels(bottoms)
    if found and fits(found[0], (mean,)):
        variance = found[0][-1]
    return (mean,), (variance,), (1,)


def _prelu(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    return ((),) if layer.message.prelu_param.channel_shared else ((_channels(bottoms),),)


def _parameter(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    return (tuple(layer.message.parameter_param.shape.dim),)


def _lstm(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    """From x to the four gates, perhaps from the static input, and from the last hidden state."""
    hidden = layer.message.recurrent_param.num_output
    gates = 4 * hidden
    return (
        (gates, _inputs(bottoms[0], 2)),
        (gates,),
        *_static(layer, gates, bottoms),
        (gates, hidden),
    )


def _rnn(layer: Layer, found: Found, bottoms: Bottoms) -> tuple[Pattern, ...]:
    """As for an LSTM; and from the hidden state to the output."""
    hidden = layer.message.recurrent_param.num_output
    square: Pattern = (hidden, hidden)
    static = _static(layer, hidden, bottoms)
    return ((hidden, _inputs(bottoms[0], 2)), (hidden,), *static, square, square, (hidden,))


def _static(layer: Layer, outputs: int, bottoms: Bottoms) -> tuple[Pattern, ...]:
    return ((outputs, _inputs(bottoms[2], 1)),) if has_static(layer) else ()


def _inputs(bottom: Partial | None, axis: int) -> Dim:
    return ANY if bottom is None else _dim(count(bottom[axis:]))


def _channels(bottoms: Bottoms) -> Dim:
    return ANY if bottoms[0] is None else _dim(bottoms[0][1])


def _dim(size: Size) -> Dim:
    return ANY if size is None else size


LEARNING: Mapping[str, Callable[[Layer, Found, Bottoms], tuple[Pattern, ...]]] = {
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Embed": _embed,
    "InnerProduct": _inner_product,
    "LSTM": _lstm,
    "Parameter": _parameter,
    "PReLU": _prelu,
    "RNN": _rnn,
    "Scale": _scale,
}
LEARNING_NOTHING = schema.layer_types() - LEARNING.keys() - {"Python"}
"""A Python layer's blobs depend on code of one's own."""
